"""One operator of a step, done for all steps at once.

Needs: an operator whose operands are either the same at each step or stacked, with the steps in front. Guarantees: the
stack of what the operator gives at each step, or a NotRollable that names the operator.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import onnx_ir as ir

from seqport.exporters.cell import WEIGHTS, is_cell
from seqport.exporters.passes.builder import Builder, constant, outputs_of
from seqport.exporters.rolling.terms import NotRollable

# Operators that work element by element, so that a leading time axis changes nothing.
_ELEMENTWISE = frozenset(
    """Abs Add And Cast CastLike Ceil Celu Clip Cos Div Elu Equal Erf Exp Floor Gelu Greater GreaterOrEqual HardSigmoid
    HardSwish Identity IsNaN LeakyRelu Less LessOrEqual Log Max Mean Min Mish Mod Mul Neg Not Or Pow PRelu Reciprocal
    Relu Round Selu Sigmoid Sign Sin Softplus Softsign Sqrt Sub Sum Tanh ThresholdedRelu Where Xor""".split()  # noqa: SIM905
)
# Operators with one axis in an attribute.
_ONE_AXIS = frozenset(
    "Softmax LogSoftmax Hardmax LayerNormalization Concat Split ArgMax ArgMin TopK GatherElements OneHot".split()  # noqa: SIM905
)
# Operators with axes in their second input.
_AXES_INPUT = frozenset(
    {"Unsqueeze", "Squeeze", "ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL2"}
)
_REDUCES = frozenset(op for op in _AXES_INPUT if op.startswith("Reduce"))


@dataclass(frozen=True)
class Operand:
    """An operand over all steps.

    Attributes:
        value: the value; [seq, ...] where it varies.
        varies: whether it has the steps in front.
        rank: of one step.
    """

    value: ir.Value
    varies: bool
    rank: int | None


def vectorised(
    build: Builder, node: ir.Node, operands: Sequence[Operand | None], seq: ir.Value
) -> tuple[ir.Value, ...]:
    """The node's outputs, each [seq, ...].

    Args:
        build: where to emit.
        node: the operator at any one step.
        operands: its inputs, of which at least one varies.
        seq: the number of steps, [1].

    Raises:
        NotRollable: the operator is not known to work so.
    """
    values = [None if item is None else item.value for item in operands]
    varies = [item is not None and item.varies for item in operands]
    attributes = {name: attribute.value for name, attribute in node.attributes.items()}
    op = node.op_type
    if op in _ELEMENTWISE:
        return (build.op(op, *_aligned(build, operands), **attributes),)
    if op == "MatMul":
        return (_product(build, operands),)
    if op == "Gemm" and varies[0] and not any(varies[1:2]) and not attributes.get("transA"):
        return (_gemm(build, operands, attributes),)
    if op in _ONE_AXIS and (varies[0] or op == "Concat"):
        return _along_axis(build, node, operands, seq)
    if op == "Slice" and varies[0] and not any(varies[1:]) and len(values) > 3:
        return (build.op(op, *values[:3], _moved_axes(build, values[3]), *values[4:]),)
    if op in _AXES_INPUT and varies[0] and not any(varies[1:]):
        return (_over_axes(build, node, operands),)
    if op == "Gather" and len(operands) == 2:
        return (_gathered(build, node, operands),)
    if op == "Transpose" and "perm" in attributes:
        return (build.op(op, values[0], perm=[0, *(axis + 1 for axis in attributes["perm"])]),)
    if op in ("Reshape", "Expand") and varies[0] and not varies[1]:
        return (_shaped(build, node, operands, seq),)
    if is_cell(node) and not any(varies[WEIGHTS:]):
        return _cell(build, node, operands, seq)
    raise NotRollable(f"{op} ({node.name}) is not known to work on all steps at once")


def _cell(build: Builder, node: ir.Node, operands: Sequence[Operand | None], seq: ir.Value) -> tuple[ir.Value, ...]:
    """A cell that starts anew at each step: the steps are one more axis of its batch."""
    states = [None if item is None else stacked_alike(build, item, seq) for item in operands[:WEIGHTS]]
    weights = [None if item is None else item.value for item in operands[WEIGHTS:]]
    attributes = {name: attribute.value for name, attribute in node.attributes.items()}
    outputs = outputs_of(build.op(node.op_type, *states, *weights, num_outputs=len(node.outputs), **attributes))
    made = outputs[0].producer()
    assert made is not None
    made.domain = node.domain
    return outputs


def stacked_alike(build: Builder, operand: Operand, seq: ir.Value) -> ir.Value:
    """An operand [seq, ...], repeated where it is the same at each step."""
    if operand.varies:
        return operand.value
    whole = build.op("Unsqueeze", operand.value, build.const([0], name="axes"))
    rank = operand.rank
    if rank is None:
        raise NotRollable(f"the rank of {operand.value.name} is not known")
    return build.op("Expand", whole, build.op("Concat", seq, build.const([1] * rank), axis=0) if rank else seq)


def _aligned(build: Builder, operands: Sequence[Operand | None]) -> list[ir.Value | None]:
    """Operands that broadcast as those of one step do: axes of size 1 behind the steps where one has fewer."""
    ranks = [item.rank for item in operands if item is not None]
    most = max((rank for rank in ranks if rank is not None), default=0)
    found: list[ir.Value | None] = []
    for item in operands:
        if item is None or not item.varies or item.rank == most:
            found.append(None if item is None else item.value)
            continue
        if item.rank is None or None in ranks:
            raise NotRollable(f"the rank of {item.value.name} is not known")
        found.append(build.op("Unsqueeze", item.value, build.const(list(range(1, 1 + most - item.rank)), name="axes")))
    return found


def _product(build: Builder, operands: Sequence[Operand | None]) -> ir.Value:
    one, other = operands
    assert one is not None and other is not None
    if other.rank == 1 or (one.rank == 1 and other.varies):
        if not (one.varies and not other.varies):
            raise NotRollable("a product with a vector")
        return build.op("MatMul", one.value, other.value)
    if one.rank == 1:
        return build.op("MatMul", one.value, other.value)  # [seq, in] by [in, out]
    return build.op("MatMul", *_aligned(build, operands))


def _gemm(build: Builder, operands: Sequence[Operand | None], attributes: dict[str, object]) -> ir.Value:
    x, weight, *bias = operands
    assert x is not None and weight is not None
    W = build.op("Transpose", weight.value, perm=[1, 0]) if attributes.get("transB") else weight.value
    total = _times(build, build.op("MatMul", x.value, W), attributes.get("alpha", 1.0))
    if not bias or bias[0] is None:
        return total
    scaled = _times(build, bias[0].value, attributes.get("beta", 1.0))
    return build.op("Add", *_aligned(build, [Operand(total, True, 2), Operand(scaled, bias[0].varies, bias[0].rank)]))


def _times(build: Builder, value: ir.Value, by: object) -> ir.Value:
    return value if by == 1.0 else build.op("Mul", value, build.op("CastLike", build.const(by, "float32"), value))


def _along_axis(
    build: Builder, node: ir.Node, operands: Sequence[Operand | None], seq: ir.Value
) -> tuple[ir.Value, ...]:
    attributes = {name: attribute.value for name, attribute in node.attributes.items()}
    default = 0 if node.op_type in ("Split", "ArgMax", "ArgMin", "GatherElements") else -1
    axis = attributes.get("axis", default)
    values = [None if item is None else item.value for item in operands]
    if node.op_type in ("Concat", "GatherElements"):
        values = [None if item is None else stacked_alike(build, item, seq) for item in operands]
    elif any(item is not None and item.varies for item in operands[1:]):
        raise NotRollable(f"{node.op_type} ({node.name}) has another operand at each step")
    if node.op_type == "Split" and len(operands) < 2:
        attributes["num_outputs"] = len(node.outputs)
    attributes["axis"] = axis + 1 if axis >= 0 else axis
    first = build.op(node.op_type, *values, num_outputs=len(node.outputs), **attributes)
    return outputs_of(first)


def _over_axes(build: Builder, node: ir.Node, operands: Sequence[Operand | None]) -> ir.Value:
    attributes = {name: attribute.value for name, attribute in node.attributes.items()}
    x = operands[0]
    assert x is not None
    if len(operands) > 1 and operands[1] is not None:
        axes = _moved_axes(build, operands[1].value)
    elif node.op_type in _REDUCES and not attributes.get("noop_with_empty_axes") and x.rank is not None:
        axes = build.const(list(range(1, x.rank + 1)), name="axes")  # all of a step
    else:
        raise NotRollable(f"{node.op_type} ({node.name}) without axes")
    return build.op(node.op_type, x.value, axes, **attributes)


def _gathered(build: Builder, node: ir.Node, operands: Sequence[Operand | None]) -> ir.Value:
    data, index = operands
    assert data is not None and index is not None
    axis = node.attributes.get_int("axis", 0)
    if data.varies and not index.varies:
        return build.op("Gather", data.value, index.value, axis=axis + 1 if axis >= 0 else axis)
    if index.varies and not data.varies and axis == 0:
        return build.op("Gather", data.value, index.value, axis=0)  # an embedding of each step's ids
    raise NotRollable(f"Gather ({node.name}) takes another place of another tensor at each step")


def _shaped(build: Builder, node: ir.Node, operands: Sequence[Operand | None], seq: ir.Value) -> ir.Value:
    x, shape = operands
    assert x is not None and shape is not None
    value, array = x.value, constant(shape.value)
    sizes = shape.value.shape
    length = array.size if array is not None else sizes[0] if sizes is not None and sizes.rank() else None
    if node.op_type == "Expand":
        if x.rank is None or not isinstance(length, int):
            raise NotRollable(f"the rank of {node.name} is not known")
        if length > x.rank:
            value = build.op("Unsqueeze", value, build.const(list(range(1, 1 + length - x.rank)), name="axes"))
        elif length < x.rank:
            return build.op("Expand", value, shape.value)
    return build.op(node.op_type, value, build.op("Concat", seq, shape.value, axis=0))


def _moved_axes(build: Builder, value: ir.Value | None) -> ir.Value:
    """Axes behind the new one in front."""
    axes = constant(value)
    if axes is None:
        raise NotRollable("axes that are computed")
    return build.const([axis + 1 if axis >= 0 else axis for axis in axes.reshape(-1).tolist()], name="axes")
