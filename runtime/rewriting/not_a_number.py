"""Where a graph turns NaN into a number, as ONNX Runtime computes it on the CPU.

ONNX Runtime clips what a gate of LSTM and GRU is computed of to finite numbers, and NaN becomes the largest of them;
without a bias it goes another way, which keeps NaN. Its ReLU in an RNN gives 0, and a maximum over an axis passes NaN
over. PyTorch, TensorFlow and Keras keep NaN in all of these.
"""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import GraphProto, NodeProto, TensorProto

from seqport.runtime.kernels import DOMAIN
from seqport.runtime.rewriting.native import Native
from seqport.runtime.rewriting.reading import attribute, is_recurrent, nodes_within

_BIAS = 3  # its position among the inputs of a recurrent node
_PASS_NAN_OVER = frozenset(
    {"ReduceMax", "ReduceMin", "ArgMax", "ArgMin", "MaxPool", "GlobalMaxPool", "TopK", "ThresholdedRelu"}
)
_GIVE_WHOLE = frozenset(
    {"Shape", "Size", "NonZero", "ArgMax", "ArgMin", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"}
)


def node_hides_nan(native: Native) -> bool:
    """Whether ONNX Runtime's own node of a layer turns NaN into a number."""
    return _hides(native.node)


def what_hides_nan(graph: GraphProto) -> str:
    """The first node that turns NaN into a number, as a message names it.

    "" where none does, or the model itself asks what is NaN: then that is a value like others (a missing one, say).
    """
    nodes = list(nodes_within(graph))
    if any(node.op_type == "IsNaN" for node in nodes):
        return ""
    whole = _whole(graph)
    return next((f"{n.op_type} {n.name!r}" for n in nodes if _hides(n) and not (n.input and n.input[0] in whole)), "")


def hidden_in(path: Path) -> str:
    """The same of a file, read without the weights beside it."""
    return what_hides_nan(onnx.load(path, load_external_data=False).graph)


def _whole(graph: GraphProto) -> set[str]:
    """Values that hold whole numbers or flags, as far as that follows from where they come from."""
    floats = {TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16}
    whole = {value.name for value in graph.input if value.type.tensor_type.elem_type not in floats}
    whole |= {tensor.name for tensor in graph.initializer if tensor.data_type not in floats}
    for node in graph.node:
        if node.op_type == "Cast":
            is_whole = attribute(node, "to") not in floats
        else:
            is_whole = node.op_type in _GIVE_WHOLE or all(name in whole for name in node.input if name)
        if is_whole and node.input and node.op_type != "ConstantOfShape":
            whole.update(node.output)
        elif node.op_type == "TopK":
            whole.add(node.output[1])
    return whole


def _hides(node: NodeProto) -> bool:
    if node.domain == DOMAIN:
        return bool(attribute(node, "hides_nan", 0))
    if not is_recurrent(node):
        return node.op_type in _PASS_NAN_OVER
    if node.op_type == "RNN":
        activations = attribute(node, "activations", ())
        return isinstance(activations, list) and any(name.lower() != b"tanh" for name in activations)
    return node.op_type == "DynamicQuantizeLSTM" or (len(node.input) > _BIAS and bool(node.input[_BIAS]))
