"""The numbers behind whole numbers and flags, as outputs beside them.

Needs: an artifact. Guarantees: a session that also gives the last float values that each class, flag or rounded output
is made from. Two classes that agree on eight rows prove nothing: the scores that they are chosen by must agree.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort

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


def session_with_witnesses(model: ir.Model, outputs: Collection[str]) -> tuple[ort.InferenceSession, list[str]] | None:
    """The artifact with what stands behind some of its outputs, and the names of that; None where nothing does.

    Args:
        model: the artifact, which is not changed.
        outputs: names of those that hold whole numbers or flags.
    """
    if not outputs:
        return None
    typed = through_onnx(model, lambda proto: onnx.shape_inference.infer_shapes(proto, data_prop=False))
    found: dict[str, ir.Value] = {}
    for value in typed.graph.outputs:
        if value.name in outputs:
            found |= _behind(value)
    own = {value.name for value in (*typed.graph.outputs, *typed.graph.inputs)}
    values = [value for name, value in found.items() if name not in own]
    if not values:
        return None
    typed.graph.outputs.extend(values)
    return session_of(typed), [value.name or "" for value in values]


def _behind(value: ir.Value) -> dict[str, ir.Value]:
    """Name → the last float values behind an output, at the operators that make whole numbers of them."""
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
            if node.op_type in _DISCRETE and source.dtype in _FLOATS:
                found[source.name or ""] = source
            else:
                stack.append(source)
    return found
