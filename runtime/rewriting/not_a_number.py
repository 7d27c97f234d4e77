"""Where a graph turns NaN into a number, as ONNX Runtime computes it on the CPU.

ONNX Runtime clips what a gate of LSTM and GRU is computed of to finite numbers, and NaN becomes the largest of them;
without a bias it goes another way, which keeps NaN. Its ReLU in an RNN gives 0, and a maximum over an axis passes NaN
over. PyTorch, TensorFlow and Keras keep NaN in all of these.
"""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import GraphProto, NodeProto

from seqport.runtime.kernels import DOMAIN
from seqport.runtime.rewriting.nan_flow import NanFlow
from seqport.runtime.rewriting.native import Native
from seqport.runtime.rewriting.reading import attribute, is_recurrent

_BIAS = 3  # its position among the inputs of a recurrent node
_PASS_NAN_OVER = frozenset(
    {"ReduceMax", "ReduceMin", "ArgMax", "ArgMin", "MaxPool", "GlobalMaxPool", "TopK", "ThresholdedRelu"}
)


def node_hides_nan(native: Native) -> bool:
    """Whether ONNX Runtime's own node of a layer turns NaN into a number."""
    return _hides(native.node)


def what_hides_nan(graph: GraphProto) -> str:
    """The first node that turns NaN into a number, as a message names it.

    "" where none does, or none that NaN of the inputs reaches: what the model itself replaces is a value like others (a
    missing one, say).
    """
    return next((f"{node.op_type} {node.name!r}" for node in NanFlow().through(graph) if _hides(node)), "")


def hidden_in(path: Path) -> str:
    """The same of a file, read without the weights beside it."""
    return what_hides_nan(onnx.load(path, load_external_data=False).graph)


def _hides(node: NodeProto) -> bool:
    if node.domain == DOMAIN:
        return bool(attribute(node, "hides_nan", 0))
    if not is_recurrent(node):
        return node.op_type in _PASS_NAN_OVER
    if node.op_type == "RNN":
        activations = attribute(node, "activations", ())
        return isinstance(activations, list) and any(name.lower() != b"tanh" for name in activations)
    return node.op_type == "DynamicQuantizeLSTM" or (len(node.input) > _BIAS and bool(node.input[_BIAS]))
