"""The hunt finds nothing among the models that it always tries, and finds what is planted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hunt.__main__ import hunt, shrunk
from hunt.feeds import feeds, first_steps, row_alone
from hunt.judge import finding
from hunt.layers import Spec
from hunt.models import PLAIN, built
from hunt.reference import Reference, difference
from hunt.roles import ROLES
from hunt.writers import SAYS
from seqport.runtime import Stream

# What two minutes are enough for on two cores.
MODELS = 15


def test_nothing_goes_wrong(tmp_path: Path) -> None:
    assert hunt(seed=0, minutes=60, folder=tmp_path, models=MODELS) == []


@pytest.mark.parametrize(
    ("blinded", "sight", "spec"),
    [
        (
            "seqport.exporters.passes.judgement.Judge.difference",
            0.0,
            {"cell": "LSTM", "role": "lengths", "front": [["scale", 2]], "behind": [["half if multiple", 5]]},
        ),
        (
            "seqport.exporters.passes.ragged._Proof.holds",
            True,
            {"role": "lengths", "front": [["floor", 0.5]], "behind": [["softmax over the rows"], ["small", -3]]},
        ),
    ],
    ids=["a proof that compares nothing", "rows that are taken for independent"],
)
def test_what_a_blind_proof_lets_through_is_found_and_shrunk(
    blinded: str, sight: float | bool, spec: Spec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = {**PLAIN, **spec}
    assert finding(spec, tmp_path) is None
    monkeypatch.setattr(blinded, lambda *_, **__: sight)
    assert finding(spec, tmp_path)
    least = shrunk(spec, lambda one: finding(one, tmp_path))
    assert least["front"] == [] and least["behind"] == [spec["behind"][0]] and least["cell"] == "GRU"


@pytest.mark.parametrize(
    ("breaks", "said"),
    [
        ("hunt.judge.export", "export raises TypeError: of no kind of seqport's"),
        ("hunt.judge.Session.predict", "predict raises TypeError: of no kind of seqport's"),
    ],
)
def test_an_error_that_is_no_refusal_is_found(
    breaks: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise TypeError("of no kind of seqport's")

    monkeypatch.setattr(breaks, broken)
    assert finding(PLAIN, tmp_path) == said


def test_the_doubt_of_one_element_excuses_no_other() -> None:
    expected, exact = np.array([[1.0, 2.0], [3.0, 4.0]], "f4"), np.array([[1.0, 2.0], [3.0, 9.0]])
    found = expected.copy()
    found[1, 1] = 8
    assert difference(found, expected, exact) is None
    found[0, 0] = 1.5
    assert difference(found, expected, exact) == "differs by 0.5 of 4"
    found[0, 0] = np.nan
    assert difference(found, expected, exact) == "is not finite where the model is"
    lost = np.array([[np.nan, 2.0], [3.0, 4.0]], "f4")
    assert difference(expected, lost, lost.astype("f8")) == "is finite, or another infinity, where the model is not"


@pytest.mark.parametrize("spec", [*({"role": role} for role in ROLES), *({"says": says} for says in SAYS)])
def test_every_kind_answers_all_its_values(spec: Spec) -> None:
    model, inputs = built({**PLAIN, **spec})
    random = np.random.default_rng(0)
    for _, feed in feeds(inputs, 3, 7, random):
        said = Reference(model).differs(np.zeros((3, 7), np.float32), feed)
        assert said is not None and said.startswith("has the shape [3, 7], not [3, 7, ")
    row = row_alone(inputs, 7, random)
    said = Reference(model).differs(np.zeros(1, np.float32), first_steps(inputs, row, 4))
    assert said is not None and said.startswith("has the shape [1], not [1, 4, ")


def test_a_layer_that_forgets_a_state_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The role of an input, planted: the file is right, and streams leave out what the state is made from."""
    spec = {**PLAIN, "role": "projected state"}
    assert finding(spec, tmp_path) is None
    push = Stream.push
    monkeypatch.setattr(Stream, "push", lambda self, chunk: push(self, {**chunk, **_zeros(chunk, "feat")}))
    assert "a stream after 1 steps" in (finding(spec, tmp_path) or "")


def _zeros(chunk: dict[str, np.ndarray], name: str) -> dict[str, np.ndarray]:
    return {name: np.zeros_like(chunk[name])} if name in chunk else {}
