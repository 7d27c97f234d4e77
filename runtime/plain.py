"""The signature of an ONNX file that says nothing of itself, as ONNX Runtime sees it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from seqport.runtime.artifact import Description, TensorInfo
from seqport.runtime.convert import numpy_dtype
from seqport.runtime.validate import InputRule

if TYPE_CHECKING:
    import onnxruntime

_NUMPY_NAMES = {"float": "float32", "double": "float64"}  # the others are named alike


def plain_signature(session: onnxruntime.InferenceSession) -> Description:
    """Inputs and outputs; an axis without a name or size is called `<tensor>.<position>`."""
    return Description(
        inputs=tuple(_info(arg) for arg in session.get_inputs()),
        outputs=tuple(_info(arg) for arg in session.get_outputs()),
    )


def plain_rules(session: onnxruntime.InferenceSession) -> list[InputRule]:
    """What can be checked of each input, initializers that a caller may override included."""
    required = [_rule(arg, required=not arg.type.startswith("optional")) for arg in session.get_inputs()]
    return required + [_rule(arg, required=False) for arg in session.get_overridable_initializers()]


def _rule(arg: onnxruntime.NodeArg, *, required: bool) -> InputRule:
    info = _info(arg)
    if not arg.type.startswith("tensor("):  # a sequence or a map: ONNX Runtime checks it
        return InputRule(info.name, None, None, required)
    # ONNX Runtime gives [] for a scalar as for a shape that the file leaves open.
    return InputRule(info.name, numpy_dtype(info.dtype), info.axes or None, required)


def _info(arg: onnxruntime.NodeArg) -> TensorInfo:
    match = re.fullmatch(r"tensor\((\w+)\)", arg.type)
    dtype = _NUMPY_NAMES.get(match[1], match[1]) if match else arg.type
    axes = tuple(axis if axis is not None else f"{arg.name}.{position}" for position, axis in enumerate(arg.shape))
    return TensorInfo(arg.name, dtype, axes)
