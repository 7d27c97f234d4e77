"""The numbers behind whole numbers and flags, as outputs beside them.

Needs: an artifact. Guarantees: a session that also gives the last float values that each class, flag or rounded number
is made from, those inside the graph too, and whole numbers without rows that are compared. Two classes that agree on
eight rows prove nothing: the scores that they are chosen by must agree.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort

from seqport.exporters.passes.roles import upstream
from seqport.exporters.serial import session_of, through_onnx

# Operators that make whole numbers or flags of floats.
_DISCRETE = frozenset(
    """ArgMax ArgMin Cast Ceil Equal Floor Greater GreaterOrEqual IsInf IsNaN Less LessOrEqual NonMaxSuppression NonZero
    OneHot Round Sign TopK Unique""".split()  # noqa: SIM905
)
_FLOATS = (ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16)


def is_discrete(array: np.ndarray) -> bool:
    """Whether an output holds whole numbers only, so that a small change need not show in it."""
    if array.dtype.kind != "f":
        return True
    finite = array[np.isfinite(array)]
    return bool((finite == np.round(finite)).all())


class Witnesses(NamedTuple):
    """The artifact with what stands behind its choices as outputs.

    Attributes:
        session: runs it.
        names: of what stands there.
        behind_discrete: those of them that outputs of whole numbers or flags are made from.
    """

    session: ort.InferenceSession
    names: list[str]
    behind_discrete: set[str]


def witnesses(model: ir.Model, inputs: Collection[str], discrete: Collection[str]) -> Witnesses | None:
    """What stands behind the choices of an artifact; None where it chooses nothing.

    Args:
        model: the artifact, which is not changed.
        inputs: names of those that hold data, and no lengths.
        discrete: names of the outputs that hold whole numbers or flags.
    """
    if not any(node.op_type in _DISCRETE for node in model.graph):
        return None
    typed = through_onnx(model, lambda proto: onnx.shape_inference.infer_shapes(proto, data_prop=False))
    found: dict[str, ir.Value] = {}
    behind_discrete: set[str] = set()
    for value in typed.graph.outputs:
        behind = _behind(value, inputs)
        found |= behind
        if value.name in discrete:
            behind_discrete.update(behind)
    own = {value.name for value in (*typed.graph.outputs, *typed.graph.inputs)}
    values = [value for name, value in found.items() if name not in own]
    if not values:
        return None
    typed.graph.outputs.extend(values)
    return Witnesses(session_of(typed), [value.name or "" for value in values], behind_discrete)


def _is_single(value: ir.Value) -> bool:
    return value.shape is not None and all(size == 1 for size in value.shape)


def _behind(value: ir.Value, inputs: Collection[str]) -> dict[str, ir.Value]:
    """Name → the last float values behind an output, at the operators that make whole numbers of them.

    And single whole numbers that data is counted or summed to.
    """
    found: dict[str, ir.Value] = {}
    seen: set[ir.Value] = set()
    stack = [value]
    while stack:
        item = stack.pop()
        node = item.producer()
        if item in seen or node is None:
            continue
        seen.add(item)
        for source in node.inputs:
            if source is None or source.const_value is not None:
                continue
            is_float = source.dtype in _FLOATS
            if node.op_type in _DISCRETE and (is_float or (_is_single(source) and upstream(source) & set(inputs))):
                found[source.name or ""] = source
            if not (node.op_type in _DISCRETE and is_float):
                stack.append(source)
    return found
