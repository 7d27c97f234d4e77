"""On a real GPU: nodes, native and rewritten, beside the CPU, and what a session does. `make gpu`; else the reason."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from seqport.runtime import Session, cuda, trial

from .own_layers import DIRECTIONS, Layer

pytestmark = pytest.mark.gpu
TOLERANCE = 1e-5
SCALE = 0.5  # of the weights; at 1 a ReLU grows to a thousand in nine steps


@pytest.fixture(autouse=True)
def device() -> None:
    reason = cuda.problem(0) or trial.problem(0)
    if reason:
        pytest.skip(reason)


def _inputs(seed: int = 0) -> dict[str, np.ndarray]:
    x = np.random.default_rng(seed).normal(size=(5, 9, 3)).astype(np.float32)
    return {"x": x, "lengths": np.array([9, 1, 4, 9, 2])}


def _rows(count: int = 40, seed: int = 0) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    return [random.normal(size=(random.integers(1, 30), 3)).astype(np.float32) for _ in range(count)]


def _agree(answers: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert answers.keys() == expected.keys()
    for name, value in answers.items():
        np.testing.assert_allclose(value, expected[name], rtol=0, atol=TOLERANCE, err_msg=name)


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
@pytest.mark.parametrize("directions", [1, 2])
def test_native_nodes_agree_with_the_cpu(artifact, cell, directions, capfd) -> None:
    path = artifact(cell, directions=directions)
    session = Session(path, "cuda")
    assert (session.placement, session.provider_note) == ({"recurrent": "cuda:0"}, "")
    _agree(session.run(_inputs()), Session(path, "cpu").run(_inputs()))
    assert session.check_ready() <= TOLERANCE
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("cell", ["LSTM", "GRU reset after", "RNN tanh", "GRU reset before", "RNN relu"])
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("given", [(), ("lengths",), ("h_0", "c_0"), ("lengths", "h_0", "c_0")])
def test_a_node_in_all_its_forms(tmp_path, cell, direction, given) -> None:
    """Beside ONNX Runtime's node on the CPU; NaN in the padding, and rows of no steps."""
    layer = Layer(cell, direction, given=given)
    onnx.save(layer.model(), tmp_path / "m.onnx")
    session = Session(tmp_path / "m.onnx", "cuda")
    cpu = Session(tmp_path / "m.onnx", "cpu", kernels="onnxruntime", packing="off")
    assert set(session.placement.values()) == {"cuda:0"}
    for lengths in ([9, 1, 4, 9, 2], [7, 0, 3, 0, 1], [0, 0], [9]):
        feed = layer.feed(lengths, 9)
        _agree(session.run(feed), cpu.run(feed))


BEYOND_CUDNN: list[tuple[str, dict[str, Any]]] = [
    ("rnn", {"activations": ["Relu"]}),
    ("gru", {"linear_before_reset": 0}),
    ("gru", {"linear_before_reset": 0, "clip": 0.5}),
    ("lstm", {"clip": 0.5}),
    ("lstm", {"input_forget": 1}),
    ("lstm", {"activations": ["HardSigmoid", "Softsign", "Elu"]}),
]


@pytest.mark.parametrize(("cell", "attributes"), BEYOND_CUDNN)
@pytest.mark.parametrize("directions", [1, 2])
def test_rewritten_nodes_stay_there_and_agree(artifact, cell, attributes, directions) -> None:
    repeated = {key: value * directions if key == "activations" else value for key, value in attributes.items()}
    path = artifact(cell, directions=directions, attributes=repeated, scale=SCALE)
    session = Session(path, "cuda")
    assert session.placement == {"recurrent": "cuda:0"}
    assert session.provider_note.startswith("rewritten to stay on cuda:0: recurrent (")
    _agree(session.run(_inputs()), Session(path, "cpu").run(_inputs()))


@pytest.mark.parametrize(("cell", "attributes"), BEYOND_CUDNN)
def test_the_rule_is_onnxruntimes_own(artifact, cell, attributes) -> None:
    """What is named as beyond cuDNN does fall to the CPU, where it is not rewritten."""
    session = Session(artifact(cell, attributes=attributes), ["cuda", "cpu"], cuda_rewrite=False)
    assert (session.provider, session.placement) == ("cuda:0", {"recurrent": "cpu"})
    assert session.provider_note.startswith("on the CPU: recurrent (")


def test_peepholes(artifact) -> None:
    path = artifact("lstm")
    model = onnx.load(path)
    weights = np.random.default_rng(1).normal(size=(1, 12)).astype(np.float32)
    model.graph.initializer.append(numpy_helper.from_array(weights, "P"))
    node = next(node for node in model.graph.node if node.op_type == "LSTM")
    node.input.extend([*[""] * (7 - len(node.input)), "P"])
    onnx.save(model, path)
    session = Session(path, "cuda")
    assert session.provider_note == "rewritten to stay on cuda:0: recurrent (peepholes)"
    _agree(session.run(_inputs()), Session(path, "cpu").run(_inputs()))


def test_auto_says_what_it_measured(artifact) -> None:
    assert Session(artifact("lstm")).provider == "cuda:0"
    path = artifact("rnn", attributes={"activations": ["Relu"]}, scale=SCALE)
    session = Session(path)
    assert "32 made-up rows of 64 steps took " in session.provider_note
    _agree(session.run(_inputs()), Session(path, "cpu").run(_inputs()))


def test_bindings_read_and_write_page_locked_memory(artifact) -> None:
    path = artifact("lstm", directions=2)
    session, cpu = Session(path, "cuda"), Session(path, "cpu")
    binding = session.bind(_inputs())
    for seed in range(3):
        binding.inputs["x"][...] = _inputs(seed)["x"]
        binding.inputs["lengths"][...] = [1 + seed, 9, 4, 2, 1]
        feed = {name: array.copy() for name, array in binding.inputs.items()}
        _agree(binding.run(), cpu.run(feed))
    out = {name: np.empty_like(array) for name, array in binding.outputs.items()}
    assert session.run(_inputs(), out=out)["output"] is out["output"]
    _agree(out, cpu.run(_inputs()))


def test_large_answers_are_kept(artifact) -> None:
    path = artifact("gru", scale=SCALE)
    session, cpu = Session(path, "cuda"), Session(path, "cpu")
    random = np.random.default_rng(0)
    feeds = [
        {"x": random.normal(size=(rows, 500, 3)).astype(np.float32), "lengths": random.integers(1, 501, rows)}
        for rows in (120, 200, 110, 120)
    ]
    found = [session.run(feed) for feed in feeds]
    assert session._gpu is not None
    assert session._gpu.memory.held >= sum(answer["output"].nbytes for answer in found)
    for answer, feed in zip(found, feeds, strict=True):
        _agree(answer, cpu.run(feed))


def test_many_threads_at_once(artifact) -> None:
    path = artifact("lstm", directions=2)
    session, cpu = Session(path, "cuda"), Session(path, "cpu")
    feeds = [_inputs(seed) for seed in range(32)]
    with ThreadPoolExecutor(8) as pool:
        for answer, feed in zip(pool.map(session.run, feeds), feeds, strict=True):
            _agree(answer, cpu.run(feed))


@pytest.mark.parametrize("directions", [1, 2])
def test_lists_of_rows(artifact, directions) -> None:
    path = artifact("lstm", directions=directions)
    for answer, expected in zip(
        Session(path, "cuda").predict(_rows()), Session(path, "cpu").predict(_rows()), strict=True
    ):
        _agree(answer, expected)


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
def test_streams(artifact, cell) -> None:
    path = artifact(cell, states=True, scale=SCALE)
    streams, rows = Session(path, "cuda").streams(), _rows(3)
    whole = Session(path, "cpu").predict(rows)
    pieces: list[list[np.ndarray]] = [[] for _ in rows]
    for start in range(0, 30, 4):
        chunks = {index: row[start : start + 4] for index, row in enumerate(rows)}
        for index, answer in streams.push(chunks).items():
            pieces[index].append(answer["output"])
    for found, expected in zip(pieces, whole, strict=True):
        np.testing.assert_allclose(np.concatenate(found), expected["output"], rtol=0, atol=TOLERANCE)
