"""Finds the layer at which chunks first give something else than the whole sequence.

Needs: a model whose states are open, and that failed the proof. All values between its layers are compared, in the
graph's order: where everything before a node agrees, and what it gives does not, that node needs more than the chunk.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import numpy_helper

from seqport.runtime.artifact import Description
from seqport.runtime.rewriting.reading import Reading
from seqport.runtime.stream_draws import Draw, part, whole_row
from seqport.runtime.stream_model import StreamModel
from seqport.runtime.stream_proof import TOLERANCE, difference
from seqport.runtime.stream_signature import Chunk
from seqport.runtime.stream_state import FRESH

if TYPE_CHECKING:
    import onnxruntime

Open = Callable[[bytes], "onnxruntime.InferenceSession"]

_POOLS = "pools over the steps, of which a chunk has only some"
_ATTENDS = "attends over the steps, of which a chunk has only some"
_LOOPS = "loops over the steps and keeps its state to itself"
_ORDERS = "changes the order of the steps, of which a chunk has only some"
_REASONS = {
    "Conv": "convolves over the steps without a state for those of the chunk before",
    "ConvTranspose": "convolves over the steps without a state for those of the chunk before",
    "Softmax": _ATTENDS,
    "MatMul": _ATTENDS,
    "Einsum": _ATTENDS,
    "CumSum": "sums up the steps without a state for those of the chunk before",
    "Loop": _LOOPS,
    "Scan": _LOOPS,
    "ReverseSequence": _ORDERS,
    "TopK": _ORDERS,
    "DynamicQuantizeLSTM": "computes in int8, with one scale for all steps of a run",
    "DynamicQuantizeLinear": "computes in int8, with one scale for all steps of a run",
    "Pad": "pads the ends of a run, which a chunk's are not",
    "LayerNormalization": "normalises over the steps, of which a chunk has only some",
    "InstanceNormalization": "normalises over the steps, of which a chunk has only some",
}
_OTHERWISE = "gives other values where a chunk begins or ends"


def culprit(model: onnx.ModelProto, description: Description, opened: StreamModel, draw: Draw, open_bytes: Open) -> str:
    """The layer and the reason, as a part of a sentence; empty where no single layer is at fault.

    Args:
        model: with its states open.
        description: names the recurrent layers.
        opened: the same model, opened.
        draw: what may come in.
        open_bytes: opens a model.
    """
    reading = Reading(model)
    timed = opened.signature.sequence.inputs.keys()
    nodes = [node for node in model.graph.node if _of_the_data(node, reading, timed)]
    names = [name for node in nodes for name in node.output if name]
    traced = open_bytes(_with_outputs(model, names))
    random = np.random.default_rng(0)
    row = whole_row(opened.signature, draw, random, masked_steps=opened.signature.masked_steps_allowed)
    half = draw.steps // 2
    (whole,) = _values(opened, traced, row, names, [(0, draw.steps)])
    parts = _values(opened, traced, row, names, [(0, half), (half, draw.steps)])
    for node in nodes:
        for name in filter(None, node.output):
            if not _agree(whole[name], [values[name] for values in parts]):
                return f"{_layer(node, reading, description)} {_reason(node)}"
    return ""


def inner_values(
    opened: StreamModel, model: onnx.ModelProto, row: Chunk, names: Sequence[str], open_bytes: Open
) -> dict[str, np.ndarray]:
    """Inner values of a model for one whole sequence, constants among them."""
    constants = [tensor for tensor in model.graph.initializer if tensor.name in names and not tensor.external_data]
    found = {tensor.name: numpy_helper.to_array(tensor) for tensor in constants}
    rest = [name for name in names if name not in found]
    values: Sequence[Any] = open_bytes(_with_outputs(model, rest)).run(rest, opened.feed([FRESH], [row]))
    return found | dict(zip(rest, values, strict=True))


def _of_the_data(node: onnx.NodeProto, reading: Reading, timed: Set[str]) -> bool:
    """Whether its values are of the sequence: what follows only sizes and lengths differs in any chunk."""
    return any(reading.upstream(name)[0] & timed for name in reading.reads(node))


def _with_outputs(model: onnx.ModelProto, names: Sequence[str]) -> bytes:
    """The model with some of its inner values as outputs."""
    traced = onnx.ModelProto()
    traced.CopyFrom(model)
    there = {value.name for value in model.graph.output}
    traced.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in there)
    return traced.SerializeToString()


def _values(
    opened: StreamModel,
    traced: onnxruntime.InferenceSession,
    row: Chunk,
    names: Sequence[str],
    ends: Sequence[tuple[int, int]],
) -> list[dict[str, Any]]:
    """The inner values of one run after the other, each going on from the state before."""
    state, found = FRESH, []
    for start, end in ends:
        chunk = part(opened.signature, row, start, end)
        found.append(dict(zip(names, traced.run(names, opened.feed([state], [chunk])), strict=True)))
        ((state, _),) = opened.advance([(state, chunk)])
    return found


def _agree(whole: Any, parts: Sequence[Any]) -> bool:
    """Whether the parts are the whole cut along one axis or, where it has no steps, the last of them is the whole."""
    if not all(isinstance(value, np.ndarray) for value in (whole, *parts)):
        return True  # a sequence of tensors: what comes of it is compared
    if whole.shape == parts[-1].shape:
        return difference(parts[-1], whole) <= TOLERANCE
    if any(value.ndim != whole.ndim for value in parts):
        return False
    axes = [axis for axis in range(whole.ndim) if any(value.shape[axis] != whole.shape[axis] for value in parts)]
    if len(axes) != 1 or sum(value.shape[axes[0]] for value in parts) != whole.shape[axes[0]]:
        return False
    return difference(np.concatenate(parts, axis=axes[0]), whole) <= TOLERANCE


def _reason(node: onnx.NodeProto) -> str:
    if node.op_type.startswith("Reduce") or node.op_type.endswith("Pool"):
        return _POOLS
    return _REASONS.get(node.op_type, _OTHERWISE)


def _layer(node: onnx.NodeProto, reading: Reading, description: Description) -> str:
    """The layer by the user's name: that of a recurrent layer or of its weights, else the node's."""
    recurrent = next((info.layer for info in description.recurrent if info.node == node.name), None)
    weights = (name.rpartition(".")[0] for name in node.input if name in reading.initializers)
    layer = recurrent or next(filter(None, weights), None)
    return f"layer {layer!r} ({node.op_type})" if layer else f"its {node.op_type} {node.name!r}"
