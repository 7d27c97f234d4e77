"""The judge of every exporter, judged: what it must catch, and what becomes of a process that dies."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import onnx
import pytest
from onnx import numpy_helper

from peers import __main__ as command
from peers import worker
from peers.cases import Case, of_pytorch
from peers.chart import KINDS, chart
from peers.judge import Verdict
from peers.page import page


@pytest.fixture(scope="module")
def case() -> Case:
    return next(found for make in of_pytorch() if (found := make()).name == "tagger-lstm")


def changed(case: Case, change: Callable[[onnx.ModelProto], None]) -> Verdict:
    """The verdict on seqport's file after a change."""

    def export(path: Path) -> None:
        case.exporters["seqport"](path)
        model = onnx.load(path)
        change(model)
        onnx.save(model, path)

    return worker.verdict(Case(**{**vars(case), "exporters": {"changed": export}}), "changed")


def swap_gates(model: onnx.ModelProto) -> None:
    node = next(node for node in model.graph.node if node.op_type == "LSTM")
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == node.input[1])
    W = numpy_helper.to_array(tensor).copy()
    half = W.shape[1] // 4
    W[:, :half], W[:, half : 2 * half] = W[:, half : 2 * half].copy(), W[:, :half].copy()
    tensor.CopyFrom(numpy_helper.from_array(W, tensor.name))


def lose_lengths(model: onnx.ModelProto) -> None:
    next(node for node in model.graph.node if node.op_type == "LSTM").input[4] = ""


def fix_batch(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 4


def add_loop(model: onnx.ModelProto) -> None:
    body = onnx.helper.make_graph([], "body", [], [])
    model.graph.node.append(onnx.helper.make_node("Loop", ["", ""], [], body=body))


def lose_an_output(model: onnx.ModelProto) -> None:
    del model.graph.output[-1]


def test_a_faithful_file_has_all_three(case: Case):
    found = changed(case, lambda _: None)
    assert found.all_three and not found.error and not found.why and found.nodes > 1


@pytest.mark.parametrize(
    ("change", "missing"),
    [(swap_gates, "parity"), (lose_lengths, "parity"), (lose_an_output, "parity"), (fix_batch, "dynamic")],
)
def test_a_fault_costs_what_it_breaks(case: Case, change, missing):
    found = changed(case, change)
    assert not getattr(found, missing) and not found.all_three
    assert found.why if missing == "parity" else found.native


def test_a_loop_is_not_native_and_unrolled_steps_are_not(case: Case):
    assert not changed(case, add_loop).native
    wants_two = Case(**{**vars(case), "least": 2})
    assert not changed(wants_two, lambda _: None).native


def test_a_file_that_is_none_and_an_export_that_fails_have_a_reason(case: Case):
    def nothing(path: Path) -> None:
        path.write_text("no model")

    def fails(_: Path) -> None:
        raise ValueError("cannot") from KeyError("the cause")

    for export, said in ((nothing, "ONNX Runtime: "), (fails, "KeyError: 'the cause'")):
        found = worker.verdict(Case(**{**vars(case), "exporters": {"x": export}}), "x")
        assert found.error.startswith(said) and not found.all_three


def test_a_process_that_dies_costs_its_own_case(monkeypatch: pytest.MonkeyPatch):
    """The lines of three processes: one dies in the second exporter, one in the last."""
    begun = '{"number": %d, "case": "%s", "exporter": "%s"}'
    done = '{"case": "%s", "exporter": "%s", "seconds": 1.0, "error": "", "why": "", "parity": true, "native": true, '
    done += '"dynamic": true, "nodes": 3}'
    asked: list[list[str]] = []

    def lines(arguments: list[str]) -> Iterator[str]:
        asked.append(arguments[1:3])
        if len(asked) == 1:
            yield from [begun % (0, "a", "seqport"), done % ("a", "seqport"), begun % (0, "a", "torch.onnx")]
        elif len(asked) == 2:
            yield begun % (0, "a", "TorchScript")
        else:
            yield from [begun % (1, "b", "seqport"), done % ("b", "seqport")]

    monkeypatch.setattr(command, "_lines", lines)
    found = [(v.case, v.exporter, bool(v.error)) for v in command.measured("pytorch")]
    assert found == [
        ("a", "seqport", False),
        ("a", "torch.onnx", True),
        ("a", "TorchScript", True),
        ("b", "seqport", False),
    ]
    assert asked == [["0", ""], ["0", "TorchScript"], ["1", ""]]


def test_a_worker_that_never_begins_is_an_error():
    with pytest.raises(SystemExit, match="the worker failed before any case"):
        list(command.measured("no such framework"))


def test_the_page_and_the_chart_count_every_model_once():
    good = {"seconds": 1.0, "parity": True, "native": True, "dynamic": True, "nodes": 4}
    several = [
        Verdict("a", "seqport", **good),
        Verdict("a", "tf2onnx", **{**good, "native": False, "nodes": 12, "seconds": 3.0}),
        Verdict("b", "seqport", **good),
        Verdict("b", "tf2onnx", error="ValueError: a | b"),
        Verdict("c", "seqport", **{**good, "parity": False}, why="at 1 × 1 output 0 differs by 0.3"),
        Verdict("c", "tf2onnx", **good),
    ]
    text = page({"tf1": several})
    assert "| seqport | 3 | 2 | 2 | 3 | 3 | 1 | 0 | 4 | 1.00 |" in text
    assert "| tf2onnx | 3 | 1 | 2 | 1 | 2 | 0 | 1 | 8 (2×) | 2.00 (2×) |" in text
    assert "| b | ✓ 4 nodes, 1.0 s | no file: ValueError: a / b |" in text
    assert "**wrong**: at 1 × 1 output 0 differs by 0.3" in text
    for verdict in several:
        assert sum(bool(belongs(verdict)) for _, belongs in KINDS.values()) == 1
    assert chart({"tf1": several}).count("<rect") == 1 + len(KINDS) + 2 + 3


def test_the_page_names_no_folder_of_this_machine():
    said = 'ValueError: in user code: File "/home/someone/site-packages/keras/layer.py", line 3'
    text = page({"keras": [Verdict("gru", name, 0.1, error=said) for name in ("seqport", "tf2onnx", "Keras")]})
    assert "in user code…" in text
    assert "/home/someone" not in text
