"""The proof is itself tested: each known fault, planted in a real artifact, turns that artifact's row red.

And each known shortcut, planted in the graph of an export, is refused by the export itself.
"""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from support.torch_models import FEATURES, IDS, Wrapped, X
from torch import Tensor, nn
from torch.nn import functional

from seqport.exporters import ExportError, export
from seqport.exporters.passes.builder import constant
from seqport.pipeline.build import artifact_path
from seqport.pipeline.judge import Row, Subject
from seqport.pipeline.runners import ARTIFACTS, open_runners
from seqport.runtime.artifact import METADATA_KEY, Description

RECURRENT = {"RNN", "GRU", "LSTM"}
SEQUENCE_LENS, INITIAL_H = 4, 5
Plant = Callable[[onnx.ModelProto], None]


def recurrent(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    return [node for node in model.graph.node if node.op_type in RECURRENT]


def attribute(node: onnx.NodeProto, name: str) -> Any:
    return next(helper.get_attribute_value(item) for item in node.attribute if item.name == name)


def insert(model: onnx.ModelProto, before: onnx.NodeProto, *nodes: onnx.NodeProto) -> None:
    place = list(model.graph.node).index(before)
    for node in reversed(nodes):
        model.graph.node.insert(place, node)


def stored(model: onnx.ModelProto, name: str, array: np.ndarray) -> str:
    model.graph.initializer.append(numpy_helper.from_array(array, name))
    return name


def swap_gates(model: onnx.ModelProto) -> None:
    """The first two gates of the weights change places, as when their order is mistaken."""
    node = recurrent(model)[0]
    hidden = attribute(node, "hidden_size")
    for tensor in model.graph.initializer:
        if tensor.name in list(node.input)[1:3]:  # W and R, [directions, gates * hidden, ...]
            array = numpy_helper.to_array(tensor).copy()
            array[:, : 2 * hidden] = np.roll(array[:, : 2 * hidden], hidden, axis=1)
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


def forget_lengths(model: onnx.ModelProto) -> None:
    for node in recurrent(model):
        node.input[SEQUENCE_LENS] = ""


def reverse_without_lengths(model: onnx.ModelProto) -> None:
    """The backward direction begins at the end of the padding; the forward one keeps its lengths."""
    for node in recurrent(model):
        direction = next(item for item in node.attribute if item.name == "direction")
        if direction.s == b"reverse":
            node.input[SEQUENCE_LENS] = ""
        elif direction.s == b"bidirectional":
            split_directions(model, node)


def split_directions(model: onnx.ModelProto, node: onnx.NodeProto) -> None:
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    ways = []
    for index, way in enumerate(("forward", "reverse")):
        weights = [stored(model, f"{way} {name}", arrays[name][index : index + 1]) for name in node.input[1:4]]
        lengths = node.input[SEQUENCE_LENS] if way == "forward" else ""
        outputs = [f"{way} {name}" for name in node.output]
        inputs = [node.input[0], *weights, lengths]
        hidden = attribute(node, "hidden_size")
        ways.append(helper.make_node(node.op_type, inputs, outputs, hidden_size=hidden, direction=way))
    joins = [
        helper.make_node(
            "Concat", [f"forward {name}", f"reverse {name}"], [name], axis=1 if name == node.output[0] else 0
        )
        for name in node.output
    ]
    insert(model, node, *ways, *joins)
    model.graph.node.remove(node)


def flip_linear_before_reset(model: onnx.ModelProto) -> None:
    for node in recurrent(model):
        flag = next(item for item in node.attribute if item.name == "linear_before_reset")
        flag.i = 1 - flag.i


def forget_the_mask(model: onnx.ModelProto) -> None:
    """The head's bias shows at padded steps."""
    (head,) = [node for node in model.graph.node if node.op_type == "Sigmoid"]
    (masked,) = [node for node in model.graph.node if "output" in node.output]
    masked.CopyFrom(helper.make_node("Identity", [head.output[0]], ["output"]))


def leak_padding(model: onnx.ModelProto) -> None:
    """Every step sees the sum of the padding, which is nothing as long as the padding is zero."""
    first = next(node for node in model.graph.node if "x" in node.input)
    zero, one, axis = (stored(model, f"leak {v}", np.array(v, np.int64)) for v in (0, 1, 2))
    axes = stored(model, "leak axes", np.array([1], np.int64))
    nothing = stored(model, "leak nothing", np.array(0, np.float32))
    nodes = [
        helper.make_node("Shape", ["x"], ["leak seq"], start=1, end=2),
        helper.make_node("Squeeze", ["leak seq"], ["leak end"]),
        helper.make_node("Range", [zero, "leak end", one], ["leak steps"]),
        helper.make_node("Unsqueeze", ["lengths", axes], ["leak column"]),
        helper.make_node("Less", ["leak steps", "leak column"], ["leak valid"]),
        helper.make_node("Unsqueeze", ["leak valid", axis], ["leak mask"]),
        helper.make_node("Where", ["leak mask", nothing, "x"], ["leak padding"]),
        helper.make_node("ReduceSum", ["leak padding", axes], ["leak sum"]),
        helper.make_node("Add", ["x", "leak sum"], ["leak x"]),
    ]
    insert(model, first, *nodes)
    first.input[list(first.input).index("x")] = "leak x"


def bake_batch(model: onnx.ModelProto) -> None:
    """The initial state has the three rows that the trace had."""
    node = recurrent(model)[0]
    node.input.append(stored(model, "baked", np.zeros((1, 3, attribute(node, "hidden_size")), np.float32)))


def freeze_lengths(model: onnx.ModelProto) -> None:
    """Every row has the length that the example had, as when a list was made of the lengths."""
    node = recurrent(model)[0]
    shape = helper.make_node("Shape", ["lengths"], ["frozen shape"])
    one = helper.make_tensor("value", TensorProto.INT32, [1], [1])
    insert(model, node, shape, helper.make_node("ConstantOfShape", ["frozen shape"], ["frozen"], value=one))
    node.input[SEQUENCE_LENS] = "frozen"


def misstate_lengths(model: onnx.ModelProto) -> None:
    """The metadata does not say which input holds the lengths; the graph is right."""
    (entry,) = [item for item in model.metadata_props if item.key == METADATA_KEY]
    description = Description.from_json(entry.value)
    (sequence,) = description.sequences
    entry.value = replace(description, sequences=(replace(sequence, lengths=None),)).to_json()


def misstate_rows(model: onnx.ModelProto) -> None:
    """The metadata takes the steps for the rows; the graph is right."""
    (entry,) = [item for item in model.metadata_props if item.key == METADATA_KEY]
    description = Description.from_json(entry.value)
    entry.value = replace(description, batch_axis=description.steps_axis).to_json()


def misstate_states(model: onnx.ModelProto) -> None:
    """The metadata says of no input that it is a state; the graph is right."""
    (entry,) = [item for item in model.metadata_props if item.key == METADATA_KEY]
    entry.value = replace(Description.from_json(entry.value), states=()).to_json()


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


# What an export would write if a pass of it, or of a translator, took a shortcut: the export's own proof must see it.


def take_the_place(graph: ir.Graph, value: ir.Value, other: ir.Value) -> None:
    """Another value goes out of the graph, or on in it, under the name of the first."""
    if not value.is_graph_output():
        value.replace_all_uses_with(other)
        return
    place = list(graph.outputs).index(value)
    other.type, other.shape = value.type, value.shape
    other.name, value.name = value.name, f"{value.name}.right"
    graph.outputs[place] = other


def drop_epsilon(graph: ir.Graph) -> None:
    """Adding 1e-8 is taken for adding nothing."""
    for node in graph:
        for place, value in enumerate(node.inputs):
            found = constant(value)
            if node.op_type == "Add" and found is not None and found.size == 1 and 0 < found.reshape(-1)[0] < 1e-6:
                other = node.inputs[1 - place]
                assert other is not None
                node.outputs[0].replace_all_uses_with(other)


def saturate_early(graph: ir.Graph) -> None:
    """-softplus(-x) is written as log(sigmoid(x))."""
    (softplus,) = [node for node in graph if node.op_type == "Softplus"]
    (below,), (above,) = softplus.predecessors(), softplus.successors()
    sigmoid = ir.node("Sigmoid", [below.inputs[0]])
    logarithm = ir.node("Log", [sigmoid.outputs[0]])
    graph.insert_after(above, [sigmoid, logarithm])
    take_the_place(graph, above.outputs[0], logarithm.outputs[0])


def narrow_integers(graph: ir.Graph) -> None:
    """A choice between whole numbers looks at 32 bits of them."""
    (less,) = [node for node in graph if node.op_type == "Less"]
    narrow = [ir.node("Cast", [value], {"to": ir.DataType.INT32}) for value in less.inputs]
    graph.insert_before(less, narrow)
    for place, node in enumerate(narrow):
        less.replace_input_with(place, node.outputs[0])


def change_the_smallest(graph: ir.Graph) -> None:
    """Of probabilities, all far below 1, every one is half as large again."""
    (softmax,) = [node for node in graph if node.op_type == "Softmax"]
    factor = ir.tensor(np.array(1.5, np.float32), name="factor")
    value = ir.Value(name="factor", const_value=factor)
    graph.register_initializer(value)
    larger = ir.node("Mul", [softmax.outputs[0], value])
    graph.insert_after(softmax, larger)
    take_the_place(graph, softmax.outputs[0], larger.outputs[0])


def change_beside_infinity(graph: ir.Graph) -> None:
    """One output is -inf at some steps, and another is the negative of what it should be."""
    value = graph.outputs[1]
    negative = ir.node("Neg", [value])
    graph.append(negative)
    take_the_place(graph, value, negative.outputs[0])


def _normalised(self: Any, x: Tensor) -> Tensor:
    spread = x.var(1, keepdim=True, correction=0).sqrt()
    return (x - x.mean(1, keepdim=True)) / (spread + 1e-8) + self.recurrent(x)[0].mean()


def _masked(self: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    late = (torch.arange(x.size(1)) >= 3)[None, :, None]
    y, h = self.recurrent(x)
    return y.masked_fill(late, float("-inf")), h


SHORTCUTS = {
    "an epsilon": (drop_epsilon, _normalised, "differs from the model's own by inf"),
    "a logarithm": (
        saturate_early,
        lambda self, x: functional.logsigmoid(x) + self.recurrent(x)[0].mean(),
        "at values 30 times as large",
    ),
    "64 bits": (
        narrow_integers,
        lambda self, ids: self.recurrent(ids.clamp(max=7)[..., None].float().expand(-1, -1, FEATURES))[0],
        r"at whole numbers beyond 2\*\*31",
    ),
    "a small probability": (
        change_the_smallest,
        lambda self, x: torch.softmax(self.head(self.recurrent(x)[0]), -1),
        "output 'output': differs from the model's own by 0.5",
    ),
    "an output beside infinities": (change_beside_infinity, _masked, "differs from the model's own by"),
}


@pytest.mark.parametrize("name", SHORTCUTS)
def test_a_shortcut_in_the_graph_is_refused(name, tmp_path, monkeypatch):
    plant, run, said = SHORTCUTS[name]
    torch.manual_seed(0)
    model = Wrapped(run, recurrent=nn.GRU(FEATURES, 8, batch_first=True), head=nn.Linear(8, 20_000)).eval()
    item = IDS if name == "64 bits" else X
    assert export(model, tmp_path / "right.onnx", [item]).path.exists()
    module = sys.modules["seqport.exporters.export"]  # a function of the package has the same name
    monkeypatch.setattr(module, "PASSES", (*module.PASSES, lambda job: plant(job.model.graph)))
    with pytest.raises(ExportError, match=said):
        export(model, tmp_path / "wrong.onnx", [item])
    assert not (tmp_path / "wrong.onnx").exists()
