"""The hunt finds nothing among the models that it always tries, and finds what is planted."""

from __future__ import annotations

from pathlib import Path

import pytest

from hunt.__main__ import hunt, shrunk
from hunt.judge import finding
from hunt.models import Spec

# What two minutes are enough for on two cores.
MODELS = 40
_OPEN = {"front": [], "behind": [], "loop": None, "lengths": False, "cell": "GRU", "seed": 0}


def test_nothing_goes_wrong(tmp_path: Path) -> None:
    assert hunt(seed=0, minutes=60, folder=tmp_path, models=MODELS) == []


@pytest.mark.parametrize(
    ("blinded", "spec"),
    [
        (
            "seqport.exporters.passes.judgement.Judge.difference",
            {**_OPEN, "cell": "LSTM", "lengths": True, "front": [["scale", 2]], "behind": [["half if multiple", 5]]},
        ),
        (
            "seqport.exporters.passes.ragged._Proof.holds",
            {**_OPEN, "lengths": True, "front": [["floor", 0.5]], "behind": [["softmax over the rows"], ["small", -3]]},
        ),
    ],
    ids=["a proof that compares nothing", "rows that are taken for independent"],
)
def test_what_a_blind_proof_lets_through_is_found_and_shrunk(
    blinded: str, spec: Spec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert finding(spec, tmp_path) is None
    sight = {"Judge.difference": 0.0}.get(".".join(blinded.rsplit(".", 2)[1:]), True)
    monkeypatch.setattr(blinded, lambda *_, **__: sight)
    assert finding(spec, tmp_path)
    least = shrunk(spec, lambda one: finding(one, tmp_path))
    assert least["front"] == [] and least["behind"] == [spec["behind"][0]] and least["cell"] == "GRU"
