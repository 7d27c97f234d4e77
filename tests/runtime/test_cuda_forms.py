"""The form that CUDA can run, beside ONNX Runtime's own node, on the CPU: every cell, option and shape of input."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from seqport.runtime.rewriting.cuda_forms import CudaForms, for_cuda, keep_on_gpu
from seqport.runtime.rewriting.scan_form import GATES

INPUT_DIM, HIDDEN, STEPS, ROWS = 3, 5, 7, 6
LENGTHS = np.array([7, 0, 3, 1, 7, 5], np.int32)
DIRECTIONS = {"forward": 1, "reverse": 1, "bidirectional": 2}
OUTPUTS = {"RNN": 2, "GRU": 2, "LSTM": 3}
# (alphas and betas where it takes them) for each activation of ONNX
ACTIVATIONS = {
    "Affine": (0.7, 0.1),
    "Relu": (),
    "LeakyRelu": (0.2,),
    "ThresholdedRelu": (0.3,),
    "Tanh": (),
    "ScaledTanh": (0.9, 0.6),
    "Sigmoid": (),
    "HardSigmoid": (0.3, 0.4),
    "Elu": (0.8,),
    "Softsign": (),
    "Softplus": (),
}


def model(
    op: str,
    *,
    direction: str = "forward",
    bias: bool = True,
    lengths: bool = True,
    state: bool = True,
    peepholes: bool = False,
    used: tuple[bool, ...] = (True, True, True),
    opset: int = 17,
    seed: int = 0,
    sizes: tuple[int, int, int, int] = (INPUT_DIM, HIDDEN, STEPS, ROWS),
    **attributes: Any,
) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    """A model of one node, and random inputs for it."""
    random = np.random.default_rng(seed)
    input_dim, hidden, steps, batch = sizes
    count, rows = DIRECTIONS[direction], GATES[op] * hidden
    shapes = {"W": (count, rows, input_dim), "R": (count, rows, hidden)}
    shapes |= {"B": (count, 2 * rows)} if bias else {}
    shapes |= {"P": (count, 3 * hidden)} if peepholes else {}
    # Small enough for unbounded activations not to blow up differences of rounding.
    weights = {name: random.normal(size=shape, scale=0.3).astype(np.float32) for name, shape in shapes.items()}
    feed: dict[str, np.ndarray] = {"X": random.normal(size=(steps, batch, input_dim)).astype(np.float32)}
    if lengths:
        feed["lengths"] = LENGTHS if sizes[2:] == (STEPS, ROWS) else random.integers(0, steps + 1, batch, np.int32)
    for name in (["h_0", "c_0"] if op == "LSTM" else ["h_0"]) if state else []:
        feed[name] = random.normal(size=(count, batch, hidden)).astype(np.float32)
    known = {**weights, **feed}
    names = [name if name in known else "" for name in ("X", "W", "R", "B", "lengths", "h_0", "c_0", "P")]
    while not names[-1]:
        names.pop()
    axes = [
        ("Y", ["steps", count, "batch", hidden]),
        ("Y_h", [count, "batch", hidden]),
        ("Y_c", [count, "batch", hidden]),
    ]
    outputs = [item if keep else ("", []) for item, keep in zip(axes[: OUTPUTS[op]], used, strict=False)]
    node = helper.make_node(
        op, names, [name for name, _ in outputs], name="cell", hidden_size=hidden, direction=direction, **attributes
    )
    kinds = {name: TensorProto.INT32 if name == "lengths" else TensorProto.FLOAT for name in feed}
    dynamic = {"X": ["steps", "batch", input_dim], "lengths": ["batch"]}
    graph = helper.make_graph(
        [node],
        "graph",
        [
            helper.make_tensor_value_info(name, kind, dynamic.get(name, [count, "batch", hidden]))
            for name, kind in kinds.items()
        ],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs if name],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.checker.check_model(made)
    return made, feed


def run(made: onnx.ModelProto, feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(made.SerializeToString(), options, ["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, map(np.asarray, session.run(names, feed)), strict=True))


def rewritten(made: onnx.ModelProto) -> onnx.ModelProto:
    """Every recurrent node rewritten, whether CUDA has a kernel for it or not."""
    other = onnx.ModelProto()
    other.CopyFrom(made)
    found = keep_on_gpu(other, lambda node: ["asked"] if node.op_type in GATES else [])
    assert found == CudaForms({"cell": ["asked"]}, {})
    assert not any(node.op_type in GATES for node in other.graph.node)
    onnx.checker.check_model(other, full_check=True)
    return other


def assert_same(made: onnx.ModelProto, feed: dict[str, np.ndarray], tolerance: float = 2e-6) -> None:
    native, ours = run(made, feed), run(rewritten(made), feed)
    assert list(ours) == list(native)
    for name, expected in native.items():
        assert ours[name].shape == expected.shape
        np.testing.assert_allclose(ours[name], expected, rtol=tolerance, atol=tolerance, err_msg=name)
    assert any(np.abs(value).max() > 0.01 for value in native.values())


@pytest.mark.parametrize("op", ["RNN", "GRU", "LSTM"])
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize(("bias", "lengths", "state"), list(itertools.product([True, False], repeat=3)))
def test_forms_of_input(op, direction, bias, lengths, state) -> None:
    made, feed = model(op, direction=direction, bias=bias, lengths=lengths, state=state)
    assert_same(made, feed)


@pytest.mark.parametrize("direction", ["reverse", "bidirectional"])
@pytest.mark.parametrize("bias", [True, False])
def test_the_reset_gate_after_the_product(direction, bias) -> None:
    assert_same(*model("GRU", direction=direction, bias=bias, linear_before_reset=1))


@pytest.mark.parametrize("op", ["RNN", "GRU", "LSTM"])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations(op, name) -> None:
    made, feed = model(op, direction="bidirectional", **_activations(op, name), clip=1.5)
    assert_same(made, feed)


def _activations(op: str, name: str) -> dict[str, Any]:
    """`name` in every place of the first direction; the second has other parameters, so that a mixup shows."""
    count = {"RNN": 1, "GRU": 2, "LSTM": 3}[op]
    found: dict[str, Any] = {"activations": [name] * count * 2}
    values = ACTIVATIONS[name]
    for place, key in enumerate(("alpha", "beta")[: len(values)]):
        found[f"activation_{key}"] = [values[place] + 0.05 * index for index in range(count * 2)]
    return found


@pytest.mark.parametrize("alpha", [[0.9, 0.3], [0.3], [0.0, 0.3]])
def test_parameters_of_an_rnn_too(alpha) -> None:
    names = ["Tanh", "LeakyRelu"]
    assert_same(*model("RNN", direction="bidirectional", activations=names, activation_alpha=alpha))


def test_parameters_go_to_the_activations_that_take_them() -> None:
    names = ["HardSigmoid", "Tanh", "LeakyRelu", "Sigmoid", "ScaledTanh", "Elu"]
    made, feed = model(
        "LSTM",
        direction="bidirectional",
        activations=names,
        activation_alpha=[0.3, 0.2, 0.8, 0.7],
        activation_beta=[0.4, 0.6],
    )
    assert_same(made, feed)


@pytest.mark.parametrize("name", ["LeakyRelu", "HardSigmoid", "Elu"])
@pytest.mark.parametrize("op", ["RNN", "GRU", "LSTM"])
def test_default_parameters(op, name) -> None:
    names = {"RNN": ["Tanh", name], "GRU": ["Sigmoid", name] * 2, "LSTM": ["Sigmoid", name, name] * 2}[op]
    assert_same(*model(op, direction="bidirectional", activations=names))


@pytest.mark.parametrize("op", ["RNN", "GRU", "LSTM"])
@pytest.mark.parametrize("clip", [0.2, 1.0])
def test_clip(op, clip) -> None:
    assert_same(*model(op, direction="bidirectional", clip=clip))


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("options", [{}, {"clip": 0.5}, {"input_forget": 1}, {"bias": False}])
def test_peepholes(direction, options) -> None:
    assert_same(*model("LSTM", direction=direction, peepholes=True, **options))


@pytest.mark.parametrize("seed", range(40))
def test_random_nodes_of_random_sizes(seed) -> None:
    random = np.random.default_rng(seed)

    def chance() -> bool:
        return bool(random.random() < 0.5)

    op = str(random.choice(["RNN", "GRU", "LSTM"]))
    direction = str(random.choice(list(DIRECTIONS)))
    options: dict[str, Any] = {"clip": 0.7} if chance() else {}
    if chance():
        # Gates between 0 and 1 and bounded values, as others let states grow without end.
        gates, values = ["Sigmoid", "HardSigmoid"], ["Tanh", "Sigmoid", "HardSigmoid", "Softsign"]
        kinds = {"RNN": [values], "GRU": [gates, values], "LSTM": [gates, values, values]}[op] * DIRECTIONS[direction]
        options["activations"] = [str(random.choice(names)) for names in kinds]
    if op == "GRU":
        options["linear_before_reset"] = int(chance())
    if op == "LSTM":
        options |= {"input_forget": int(chance()), "peepholes": chance()}
    input_dim, hidden, steps, batch = (int(random.integers(1, most)) for most in (10, 18, 24, 12))
    sizes = (input_dim, hidden, steps, batch)
    given = {name: chance() for name in ("bias", "lengths", "state")}
    assert_same(*model(op, direction=direction, sizes=sizes, seed=seed, **given, **options))


@pytest.mark.parametrize("op", ["RNN", "GRU", "LSTM"])
@pytest.mark.parametrize("used", [(True, False, False), (False, True, False), (False, True, True)])
def test_outputs_that_nobody_reads(op, used) -> None:
    assert_same(*model(op, direction="bidirectional", used=used))


@pytest.mark.parametrize("opset", [13, 18, 22])
def test_opsets(opset) -> None:
    assert_same(*model("GRU", opset=opset, direction="bidirectional"))


def test_two_nodes_of_one_name() -> None:
    """Tools leave nodes without names; the new values' names come from the node's outputs, which are unique."""
    made, feed = model("RNN", state=False, activations=["Relu"])
    first = made.graph.node[0]
    first.name = ""
    flat = helper.make_node("Squeeze", ["Y", "one"], ["flat"])
    second = helper.make_node("RNN", ["flat", "W2", "R"], ["Z"], hidden_size=HIDDEN, activations=["Relu"])
    made.graph.node.extend([flat, second])
    made.graph.initializer.extend(
        [
            numpy_helper.from_array(np.array([1]), "one"),
            numpy_helper.from_array(np.full((1, HIDDEN, HIDDEN), 0.1, np.float32), "W2"),
        ]
    )
    made.graph.output.append(helper.make_tensor_value_info("Z", TensorProto.FLOAT, None))
    other = onnx.ModelProto()
    other.CopyFrom(made)
    found = keep_on_gpu(other)
    assert found.rewritten == {"RNN": ["the activations Relu"], "RNN_1": ["the activations Relu"]}
    native, ours = run(made, feed), run(other, feed)
    for name, expected in native.items():
        np.testing.assert_allclose(ours[name], expected, rtol=2e-6, atol=2e-6)


def test_a_node_inside_a_branch() -> None:
    made, feed = model("RNN", activations=["Relu"])
    node = made.graph.node[0]
    other = onnx.NodeProto()
    other.CopyFrom(node)
    other.name, other.output[:] = "other", ["Y2", "Y2_h"]

    def branch(inner: onnx.NodeProto) -> onnx.GraphProto:
        values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in inner.output]
        return helper.make_graph([inner], inner.name, [], values)

    inner = onnx.NodeProto()
    inner.CopyFrom(node)
    inner.output[:] = ["Y1", "Y1_h"]
    choice = helper.make_node("If", ["which"], ["Y", "Y_h"], then_branch=branch(inner), else_branch=branch(other))
    del made.graph.node[:]
    made.graph.node.append(choice)
    made.graph.input.append(helper.make_tensor_value_info("which", TensorProto.BOOL, []))
    feed["which"] = np.array(True)
    rewritten_ = onnx.ModelProto()
    rewritten_.CopyFrom(made)
    assert set(keep_on_gpu(rewritten_).rewritten) == {"cell", "other"}
    assert "Scan" in str(rewritten_.graph.node[0].attribute)
    for name, expected in run(made, feed).items():
        np.testing.assert_allclose(run(rewritten_, feed)[name], expected, rtol=2e-6, atol=2e-6)


def test_nodes_that_cuda_runs_stay() -> None:
    made, _ = model("LSTM", direction="bidirectional")
    before = made.SerializeToString()
    assert keep_on_gpu(made) == CudaForms()
    assert made.SerializeToString() == before


@pytest.mark.parametrize(
    ("op", "options", "left"),
    [
        ("GRU", {"opset": 11}, ["the reset gate before the product (linear_before_reset=0)", "opset 11 is too old"]),
        ("RNN", {"activations": ["Relu"], "layout": 1}, ["the activations Relu", "layout=1 is not rewritten"]),
        ("RNN", {"activations": ["Gelu"]}, ["the activations Gelu", "the activations Gelu are not all ONNX's"]),
    ],
)
def test_what_has_no_other_form(op, options, left) -> None:
    opset, layout = options.pop("opset", 17), options.pop("layout", None)
    made, _ = model(op, **options)
    made.opset_import[0].version = opset
    if layout:
        made.graph.node[0].attribute.append(helper.make_attribute("layout", layout))
    before = made.SerializeToString()
    found = keep_on_gpu(made)
    assert not found.rewritten
    assert found.left["cell"][0] == left[0]
    assert found.left["cell"][1].startswith(left[1])
    assert made.SerializeToString() == before


def test_half_weights_stay() -> None:
    made, _ = model("RNN", activations=["Relu"])
    for tensor in made.graph.initializer:
        if tensor.name == "W":
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), "W"))
    assert keep_on_gpu(made).left == {"cell": ["the activations Relu", "its weights are float16, not float32"]}


def test_weights_beside_the_file_stay_there(tmp_path) -> None:
    made, _ = model("RNN", activations=["Relu"])
    made.graph.initializer.append(numpy_helper.from_array(np.ones(100_000, np.float32), "unused"))
    onnx.save(made, tmp_path / "m.onnx", save_as_external_data=True, location="m.data", size_threshold=0)
    found, names, left = for_cuda(tmp_path / "m.onnx", None, rewrite=True)
    assert (list(names), left) == (["cell"], {})
    assert found is not None
    assert len(found) < 20_000


@pytest.mark.parametrize("op", OUTPUTS)
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("given", [{}, {"lengths": False}, {"state": False}])
def test_inputs_without_shapes(op, direction, given) -> None:
    made, feed = model(op, direction=direction, **given)
    for value in made.graph.input:
        value.type.tensor_type.ClearField("shape")
    expected = onnxruntime.InferenceSession(made.SerializeToString()).run(None, feed)
    assert keep_on_gpu(made, lambda node: ["asked"] if node.op_type in GATES else []).rewritten
    found = onnxruntime.InferenceSession(made.SerializeToString()).run(None, feed)
    for value, wanted in zip(found, expected, strict=True):
        np.testing.assert_allclose(np.asarray(value), np.asarray(wanted), rtol=0, atol=2e-6)
