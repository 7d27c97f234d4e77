"""Proves seqport's operators on this machine, before any model is given to them.

LSTM and GRU must give the bits of ONNX Runtime's own nodes: these are bound to sum in the same order, which another
version of ONNX Runtime, or another processor, may do otherwise. Its RNN node sums in an order of its own, so of RNN the
operators must come close.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

from seqport.runtime import kernels
from seqport.runtime.host import Host
from seqport.runtime.opening import CPU_PROVIDER, open_session
from seqport.runtime.rewriting.native import GATES
from seqport.runtime.rewriting.own_layers import CELLS, Machine
from seqport.runtime.rewriting.own_operators import use_own_operators

if TYPE_CHECKING:
    import onnxruntime

# (inputs, hidden): parts of a vector and of a block, and more than one run of a sum
_SIZES = ((3, 20), (260, 272))
# Gates beyond the ends of their approximations, and within.
_SCALES = (60, 1)
_STEPS = 3
_LENGTHS = (3, 1, 2)
# What sums of a few hundred float32 products taken in another order may differ by, of numbers up to 1.
_CLOSE = 2e-6

Open = Callable[[ModelProto, Path | None], "onnxruntime.InferenceSession"]


_proven: Mapping[str, str] = {}  # once any cell was


def proven() -> Mapping[str, str]:
    """For each of CELLS why the operators do not compute it here; "" where they do. Takes some 0.1 s, once."""
    global _proven
    if not _proven:
        found = why_not(Machine(threads=1), _open)
        if all(found.values()):  # perhaps not for good
            return found
        _proven = found
    return _proven


def why_not(machine: Machine, open_model: Open) -> Mapping[str, str]:
    """See `proven`; here for any machine, and any way to open a model and the library of its operators."""
    library = kernels.library()
    if library is None:
        return dict.fromkeys(CELLS, kernels.NOT_BUILT)
    model = _model()
    random = np.random.default_rng(0)
    feed: dict[str, Any] = {"lengths": np.array(_LENGTHS, np.int32)}
    for (size, _), scale in zip(_SIZES, _SCALES, strict=True):
        feed[f"x{size}"] = np.float32(scale) * random.standard_normal((_STEPS, len(_LENGTHS), size), np.float32)
    try:
        expected = open_model(model, None).run(None, feed)
        use_own_operators(model, Path(), machine)
        session = open_model(model, library)
        found = session.run(None, feed)
    except Exception as error:  # ONNX Runtime's error types have no common root
        return dict.fromkeys(CELLS, f"seqport's operators cannot run here: {' '.join(str(error).split())}")
    answers: dict[str, list[str]] = {}
    for output, theirs, ours in zip(session.get_outputs(), expected, found, strict=True):
        cell = output.name.partition("/")[0]
        answers.setdefault(cell, []).append(_difference(cell, np.asarray(theirs), np.asarray(ours)))
    return {cell: next(filter(None, said), "") for cell, said in answers.items()}


def _difference(cell: str, theirs: np.ndarray, ours: np.ndarray) -> str:
    close = cell.startswith("RNN") and np.allclose(ours, theirs, rtol=0, atol=_CLOSE)
    alike = close or np.array_equal(ours, theirs)
    return "" if alike else f"{cell} differs from ONNX Runtime's by {np.abs(ours - theirs).max():.1e}"


def _open(model: ModelProto, operators: Path | None) -> onnxruntime.InferenceSession:
    return open_session(model.SerializeToString(), Host(), CPU_PROVIDER, operators=operators)


def _model() -> ModelProto:
    """Each cell in each size, over rows of several lengths, with random weights."""
    random = np.random.default_rng(1)
    nodes, weights, outputs = [], [], []
    for cell in CELLS:
        op, *variant = cell.split(" ", 1)
        for inputs, hidden in _SIZES:
            own = f"{cell}/{hidden}"
            for name, shape in (("W", (inputs,)), ("R", (hidden,)), ("B", ())):
                rows = GATES[op] * hidden * (1 if shape else 2)
                array = random.standard_normal((1, rows, *shape), np.float32) / np.float32(hidden**0.5)
                weights.append(numpy_helper.from_array(array, f"{own}/{name}"))
            node = helper.make_node(
                op,
                [f"x{inputs}", *(f"{own}/{name}" for name in "WRB"), "lengths"],
                [f"{own}/Y"],
                own,
                hidden_size=hidden,
            )
            if op == "RNN":
                node.attribute.append(helper.make_attribute("activations", [variant[0].capitalize()]))
            if op == "GRU":
                node.attribute.append(helper.make_attribute("linear_before_reset", int(variant == ["reset after"])))
            nodes.append(node)
            outputs.append(helper.make_tensor_value_info(f"{own}/Y", TensorProto.FLOAT, None))
    given = [helper.make_tensor_value_info(f"x{size}", TensorProto.FLOAT, ["T", "B", size]) for size, _ in _SIZES]
    given.append(helper.make_tensor_value_info("lengths", TensorProto.INT32, ["B"]))
    graph = helper.make_graph(nodes, "proof", given, outputs, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
