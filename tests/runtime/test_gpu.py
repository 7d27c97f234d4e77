"""On a real GPU: native and rewritten nodes, and bindings, beside the CPU. `make gpu`; elsewhere the reason is said."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from seqport.runtime import Session, cuda, trial

pytestmark = pytest.mark.gpu
TOLERANCE = 1e-5


@pytest.fixture(autouse=True)
def device() -> None:
    reason = cuda.problem(0) or trial.problem(0)
    if reason:
        pytest.skip(reason)


def _inputs(seed: int = 0) -> dict[str, np.ndarray]:
    x = np.random.default_rng(seed).normal(size=(5, 9, 3)).astype(np.float32)
    return {"x": x, "lengths": np.array([9, 1, 4, 9, 2])}


def _agree(answers: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    for name, value in answers.items():
        np.testing.assert_allclose(value, expected[name], rtol=0, atol=TOLERANCE, err_msg=name)


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
@pytest.mark.parametrize("directions", [1, 2])
def test_native_nodes_agree_with_the_cpu(artifact, cell, directions) -> None:
    path = artifact(cell, directions=directions)
    session = Session(path, "cuda")
    assert (session.placement, session.provider_note) == ({"recurrent": "cuda:0"}, "")
    _agree(session.run(_inputs()), Session(path, "cpu").run(_inputs()))
    assert session.check_ready() <= TOLERANCE


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
    path = artifact(cell, directions=directions, attributes=repeated)
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


def test_bindings_read_and_write_page_locked_memory(artifact) -> None:
    path = artifact("lstm", directions=2)
    session, cpu = Session(path, "cuda"), Session(path, "cpu")
    binding = session.bind(_inputs())
    for seed in range(3):
        binding.inputs["x"][...] = _inputs(seed)["x"]
        _agree(binding.run(), cpu.run(_inputs(seed)))
    out = {name: np.empty_like(array) for name, array in binding.outputs.items()}
    assert session.run(_inputs(), out=out)["output"] is out["output"]
    _agree(out, cpu.run(_inputs()))
