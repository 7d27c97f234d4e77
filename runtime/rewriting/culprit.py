"""Finds the layer at which chunks first give something else than the whole sequence.

Needs: a model whose states are open, and that failed the proof. All values between its layers are compared, in the
graph's order: where everything before a node agrees, and what it gives does not, that node needs more than the chunk.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx

from seqport.runtime.artifact import Description
from seqport.runtime.rewriting.inner import Open, agree, of_the_data, values_in_parts, with_outputs
from seqport.runtime.rewriting.reading import Reading
from seqport.runtime.stream_draws import Draw, whole_row
from seqport.runtime.stream_model import StreamModel

if TYPE_CHECKING:
    pass

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
    nodes = [node for node in model.graph.node if of_the_data(node, reading, timed)]
    names = [name for node in nodes for name in node.output if name]
    traced = open_bytes(with_outputs(model, names))
    random = np.random.default_rng(0)
    row = whole_row(opened.signature, draw, random, masked_steps=opened.signature.masked_steps_allowed)
    half = draw.steps // 2
    (whole,) = values_in_parts(opened, traced, row, names, [(0, draw.steps)])
    parts = values_in_parts(opened, traced, row, names, [(0, half), (half, draw.steps)])
    for node in nodes:
        for name in filter(None, node.output):
            if not agree(whole[name], [values[name] for values in parts]):
                return blamed(node, reading, description)
    return ""


def blamed(node: onnx.NodeProto, reading: Reading, description: Description) -> str:
    """A layer by the user's name, and what it does to the steps."""
    return f"{_layer(node, reading, description)} {_reason(node)}"


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
