"""The proof is itself tested: each known fault, planted in a real artifact, turns that artifact's row red.

And each known shortcut, planted in the graph of an export, is refused by the export itself; each that only chunks of a
sequence show, by the proof in front of the first stream.
"""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
import torch
from support.planted_artifacts import (
    Plant,
    bake_batch,
    flip_linear_before_reset,
    forget_lengths,
    forget_the_mask,
    freeze_lengths,
    leak_padding,
    misstate_lengths,
    misstate_rows,
    misstate_states,
    mix_rows,
    reverse_without_lengths,
    swap_gates,
)
from support.planted_graphs import SHORTCUTS
from support.planted_streams import STREAMS
from support.torch_models import FEATURES, Wrapped
from torch import nn

from seqport.errors import SeqportError
from seqport.exporters import ExportError, export
from seqport.pipeline.build import artifact_path
from seqport.pipeline.judge import Row, Subject
from seqport.pipeline.runners import ARTIFACTS, open_runners
from seqport.runtime import Session


@pytest.fixture
def judge(subject: Callable[[str], Subject], folder: Path, tmp_path: Path) -> Callable[..., Row]:
    """The row of a model's artifact of one part, after a fault was planted in a copy of it."""

    def run(name: str, framework: str, plant: Plant | None = None) -> Row:
        model = subject(name)
        path = artifact_path(tmp_path, name, model.cases[-1].part, framework)
        for case in model.cases:
            shutil.copy(artifact_path(folder, name, case.part, framework), tmp_path)
        if plant:
            proto = onnx.load(path)
            before = proto.SerializeToString()
            plant(proto)
            assert proto.SerializeToString() != before
            onnx.save(proto, path)
        runner = next(name for name, source in ARTIFACTS.items() if source == framework)
        return model.judge(runner, open_runners(runner, name, model.weights, tmp_path))[-1]

    return run


@pytest.mark.parametrize("framework", ["pytorch", "keras"])
@pytest.mark.parametrize("name", ["language", "hyphenation", "forecast", "generator", "numbers", "rescale"])
def test_an_untouched_artifact_is_green(name, framework, judge):
    row = judge(name, framework)
    assert row.ok, row.faults
    assert row.score is not None


# The model, the fault, and what its row must say.
FAULTS = [
    ("language", swap_gates, "against oracle: valid steps differ by"),
    ("hyphenation", swap_gates, "against pytorch: valid steps differ by"),
    ("language", forget_lengths, "against oracle: final states differ by"),
    ("hyphenation", reverse_without_lengths, "against oracle: valid steps differ by"),
    ("language", flip_linear_before_reset, "against oracle: valid steps differ by"),
    ("forecast", flip_linear_before_reset, "against oracle: final states differ by"),
    ("hyphenation", forget_the_mask, "against oracle: padded steps differ by"),
    ("forecast", leak_padding, "padding, garbage: valid steps differ by"),
    ("forecast", mix_rows, "against oracle: .*differ"),
    ("forecast", mix_rows, "padding, (neighbours|alone|permuted|batch)"),
    ("language", bake_batch, "valid steps, .*differ by inf, .*batch 1 × 1: .*initial_h must have shape"),
    ("language", freeze_lengths, "against oracle: valid steps differ by"),
    ("forecast", misstate_lengths, "signature: the artifact says sequences = .*lengths=None"),
    ("language", misstate_rows, "signature: the artifact says batch_axis = seq, expected batch"),
    ("numbers", misstate_states, r"signature: the artifact says states = \(\), expected"),
]


@pytest.mark.parametrize("framework", ["pytorch", "keras"])
@pytest.mark.parametrize(
    ("name", "plant", "said"), FAULTS, ids=[f"{name}-{plant.__name__}" for name, plant, _ in FAULTS]
)
def test_a_planted_fault_turns_the_row_red(name, plant, said, framework, judge):
    row = judge(name, framework, plant)
    assert not row.ok
    assert re.search(said, "\n".join(row.faults))


@pytest.mark.parametrize("framework", ["pytorch", "keras"])
def test_padding_that_leaks_shows_in_no_other_column(framework, judge):
    row = judge("forecast", framework, leak_padding)
    assert {fault.partition(":")[0] for fault in row.faults} == {"padding, garbage", "padding, longer"}


@pytest.mark.parametrize("framework", ["pytorch", "keras"])
def test_an_unmasked_head_shows_in_the_padded_steps_alone(framework, judge):
    row = judge("hyphenation", framework, forget_the_mask)
    assert all("padded steps" in fault for fault in row.faults), row.faults


@pytest.mark.parametrize(("name", "said"), [("language", "rows differ"), ("generator", "generated rows differ")])
def test_another_answer_turns_the_row_red(name, said, judge):
    row = judge(name, "pytorch", swap_gates)
    assert any(said in fault for fault in row.faults), row.faults


def test_a_red_row_ends_the_command_with_1(seqport, strict_json, folder, tmp_path):
    for path in folder.glob("forecast.*"):
        shutil.copy(path, tmp_path)
    code, out, _ = seqport("parity", "forecast", "--keep", "--folder", tmp_path)
    assert code == 0 and "RED" not in out
    path = tmp_path / "forecast.keras.onnx"
    proto = onnx.load(path)
    leak_padding(proto)
    onnx.save(proto, path)
    code, out, _ = seqport("parity", "forecast", "--keep", "--folder", tmp_path)
    assert code == 1
    assert "RED forecast onnx-from-keras on cpu: padding, garbage: valid steps differ by" in out
    code, out, _ = seqport("parity", "forecast", "--keep", "--folder", tmp_path, "--json", "-")
    rows = {row["runner"]: row for row in strict_json(out)["rows"]}
    assert code == 1
    assert [name for name, row in rows.items() if not row["ok"]] == ["onnx-from-keras"]
    # JSON has no infinity, which stands here as a word: the garbage holds NaN, and comes out as it went in.
    assert float(rows["onnx-from-keras"]["padding"]["garbage"]["valid"]) > 0.1


@pytest.mark.parametrize("name", SHORTCUTS)
def test_a_shortcut_in_the_graph_is_refused(name, tmp_path, monkeypatch):
    shortcut = SHORTCUTS[name]
    torch.manual_seed(0)
    parts = {"head": nn.Linear(8, 20_000), "to_h": nn.Linear(FEATURES, 8), "again": nn.Linear(8, 8)}
    model = Wrapped(shortcut.run, recurrent=nn.GRU(FEATURES, 8, batch_first=True), **parts).eval()
    assert export(model, tmp_path / "right.onnx", shortcut.inputs).path.exists()
    module = sys.modules["seqport.exporters.export"]  # a function of the package has the same name
    monkeypatch.setattr(module, "PASSES", (*module.PASSES, lambda job: shortcut.plant(job.model.graph)))
    with pytest.raises(ExportError, match=shortcut.said):
        export(model, tmp_path / "wrong.onnx", shortcut.inputs)
    assert not (tmp_path / "wrong.onnx").exists()


@pytest.mark.parametrize("framework", ["pytorch", "keras"])
@pytest.mark.parametrize("plant", STREAMS, ids=lambda plant: plant.__name__)
def test_a_fault_that_chunks_show_refuses_the_stream(plant, framework, folder, tmp_path):
    path = folder / f"forecast.{framework}.onnx"
    Session(path, "cpu").streams()
    proto = onnx.load(path)
    plant(proto)
    onnx.save(proto, tmp_path / "wrong.onnx")
    with pytest.raises(SeqportError, match="stream"):
        Session(tmp_path / "wrong.onnx", "cpu").streams()
