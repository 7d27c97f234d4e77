"""Whether a graph's answers come out of a function that makes probabilities or scores of logits."""

from __future__ import annotations

from pathlib import Path

import onnx

from seqport.runtime.artifact import Description
from seqport.runtime.rewriting.reading import Reading, is_recurrent

_SQUASH = {"Softmax", "Sigmoid", "HardSigmoid", "Exp", "Softplus", "Hardmax", "OneHot", "Erf"}
_LOGARITHM = {"Log", "LogSoftmax"}
_LINEAR = {"MatMul", "Gemm", "Conv", "Einsum", "Gather", "MatMulInteger"}
_FLAGS = {"Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Equal", "Not", "And", "Or", "Shape"}


def squashed_in(path: Path, description: Description) -> bool:
    """Whether the one answer beside the states is squashed, with no logarithm and no linear layer behind that."""
    reading = Reading(onnx.load(path, load_external_data=False))
    states = {state.output for state in description.states}
    return any(bool(squashed(reading, info.name)) for info in description.outputs if info.name not in states)


def squashed(reading: Reading, name: str) -> bool | None:
    """Whether a value is squashed, whatever was done to it element by element since; None for constants and masks.

    What has logits as a part (`logits + bias`, a gate times logits) is none.
    """
    node = reading.producers.get(name)
    if node is None or node.op_type in _FLAGS:
        return None
    if node.op_type in _SQUASH:
        return True
    if node.op_type in _LOGARITHM | _LINEAR or is_recurrent(node):
        return False
    parts = {squashed(reading, part) for part in reading.reads(node)}
    return False if False in parts else True if True in parts else None
