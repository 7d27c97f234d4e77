"""The proof as a whole: complete rows, a table, JSON, and what cannot be run with its reason."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from seqport.models import zoo
from seqport.pipeline import parity
from seqport.pipeline.compare import VIEWS, failed
from seqport.pipeline.judge import REFERENCES
from seqport.pipeline.padding import TOLERANCES
from seqport.pipeline.report import show
from seqport.pipeline.runners import NAMES
from seqport.runtime import ArtifactError, ProviderError

MODELS = ["rescale", "numbers"]


@pytest.fixture(scope="module")
def proof(folder) -> parity.Parity:
    with pytest.MonkeyPatch.context() as patch:
        opened = parity.open_runners

        def without_cuda(*arguments, provider="cpu"):
            if provider == "cuda":
                raise ProviderError("no GPU here")
            return opened(*arguments, provider=provider)

        patch.setattr(parity, "open_runners", without_cuda)
        return parity.prove(MODELS, folder)


def test_every_model_of_the_zoo_has_a_row_in_every_runner_and_provider():
    plan = parity.plan(zoo.names())
    assert {(model, runner) for model, runner, _ in plan} == {
        (model, runner) for model in zoo.names() for runner in NAMES
    }
    assert {provider for _, runner, provider in plan if runner.startswith("onnx")} == {"cpu", "cuda"}
    assert {provider for _, runner, provider in plan if not runner.startswith("onnx")} == {"cpu"}


def test_every_part_has_its_rows_one_part_after_the_other(proof):
    parts = ["rescale"] * len(NAMES) + ["numbers.encoder"] * len(NAMES) + ["numbers.decoder"] * len(NAMES)
    assert [row.label for row in proof.rows] == parts
    assert [row.runner for row in proof.rows] == list(NAMES) * 3
    assert proof.ok and all(row.provider == "cpu" for row in proof.rows)


def test_scores_are_the_models_and_equal(proof):
    scores = {(row.label, row.score) for row in proof.rows}
    assert scores == {("rescale", 1.0), ("numbers.encoder", None), ("numbers.decoder", 1.0)}


def test_what_cannot_run_is_one_line_with_the_reason(proof):
    assert proof.skipped == ("not run: every artifact: no GPU here",)


def test_only_some_artifacts_cannot_run(monkeypatch, folder):
    opened = parity.open_runners

    def refuse(name, *arguments, provider="cpu"):
        if provider == "cuda" and name == "onnx-from-keras":
            raise ProviderError("no kernel")
        return opened(name, *arguments)

    monkeypatch.setattr(parity, "open_runners", refuse)
    proof = parity.prove(["rescale"], folder)
    assert proof.skipped == ("not run: rescale onnx-from-keras: no kernel",)
    assert [row.provider for row in proof.rows] == ["cpu", "cpu", "cpu", "cpu", "cuda", "cpu"]


def test_nothing_proven_is_not_ok():
    assert not parity.Parity((), ()).ok


def test_a_missing_artifact_is_an_error(tmp_path):
    with pytest.raises(ArtifactError, match=r"rescale.pytorch.onnx does not exist"):
        parity.prove(["rescale"], tmp_path, providers=["cpu"])


def test_the_table_has_a_line_a_row_and_the_tolerances(proof, capsys):
    show(parity.table(proof))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "parity: largest differences on real padded batches"
    assert lines[1].split() == ["valid", "valid", "padded", "final", "final", *["padding"] * 4, "task"]
    assert lines[2].split()[:5] == ["model", "runner", "on", "oracle", "pytorch"]
    decoder = next(line.split() for line in lines if line.startswith("numbers.decoder  onnx-from-keras"))
    assert len(decoder) == 14 and decoder[-2:] == ["1.0000", "ok"]
    assert "allowed against pytorch: valid 1.0e-05, padded 0, final 1.0e-05" in lines
    assert lines[-1] == "not run: every artifact: no GPU here"


def test_a_red_row_says_why_under_the_table(proof, capsys):
    row = proof.rows[-1]
    broken = replace(row, against={"oracle": failed("batch 1 × 1: no outputs")}, faults=("against oracle: why",))
    show(parity.table(parity.Parity((*proof.rows[:-1], broken), ())))
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "RED numbers.decoder onnx-from-keras on cpu: against oracle: why"
    red = next(line for line in lines if line.endswith("RED"))
    assert red.split()[:4] == ["numbers.decoder", "onnx-from-keras", "cpu", "inf"]


def test_json_holds_every_number_and_no_infinity(proof, strict_json):
    row = replace(proof.rows[-1], padding={"garbage": failed("NaN")})
    plain = strict_json(json.dumps(parity.to_json(parity.Parity((*proof.rows[:-1], row), proof.skipped))))
    assert plain["ok"] is True and plain["skipped"] == list(proof.skipped)
    assert plain["rows"][-1]["padding"]["garbage"] == dict.fromkeys(VIEWS, "inf")
    assert set(plain["tolerances"]["against"]) == set(REFERENCES) and set(plain["tolerances"]["padding"]) == set(
        TOLERANCES
    )
    for found, row in zip(plain["rows"], proof.rows, strict=True):
        assert set(found) == {
            *("model", "part", "runner", "provider", "ok", "against", "padding", "score", "score_name", "faults")
        }
        assert set(found["against"]) == set(REFERENCES) - {row.runner}
        views = {"encoder": {"final"}, "decoder": set(VIEWS), "model": {"valid", "final"}}[row.part]
        assert all(set(comparison) == views for comparison in found["against"].values())


@pytest.mark.parametrize("reference", REFERENCES)
def test_no_tolerance_against_a_float32_runtime_is_wider_than_1e_5(reference):
    allowed = REFERENCES[reference]
    assert allowed.padded == 0
    assert allowed.valid <= 1e-5
    assert allowed.final <= (2e-5 if reference == "oracle" else 1e-5)
