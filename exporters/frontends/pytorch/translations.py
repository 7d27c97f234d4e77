"""PyTorch operators whose usual translation to ONNX holds for some values only, in forms that hold for all.

Needs: torch.onnx, which takes them as its custom translation table. Guarantees: the formulas of PyTorch's own CPU
kernels, or others as exact: log(sigmoid(x)) is -inf from x = -18 on in ONNX Runtime, log(1 + x) and exp(x) - 1 lose
small x, log(exp(a) + exp(b)) is inf from 89 on, floor(a / b) is off by one where a / b rounds up to a whole number
(0.6 // 0.1, 0.3 // 0.1), and Resize takes another element than PyTorch where position times scale does (10 of 130).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import onnx_ir as ir
import torch
from onnxscript import opset18

op: Any = opset18  # its types are those of graphs, and here values stand for them
_FLOAT, _DOUBLE, _INT64 = ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.INT64


def _log_sigmoid(self: Any) -> Any:
    return op.Neg(op.Softplus(op.Neg(self)))


def _expm1(self: Any) -> Any:
    # tanh(x / 2) = (exp(x) - 1) / (exp(x) + 1), and ONNX Runtime's tanh keeps small values.
    return op.Mul(op.Tanh(op.Mul(self, 0.5)), op.Add(op.Exp(self), 1.0))


def _log1p(self: Any) -> Any:
    # W. Kahan's correction: log(u) / (u - 1) is exact enough even where u = 1 + x has lost digits of x.
    u = op.Add(self, 1.0)
    lost = op.Sub(u, 1.0)
    plain = op.Or(op.Equal(lost, 0.0), op.IsInf(u))
    corrected = op.Mul(op.Log(u), op.Div(self, lost))
    return op.Where(plain, self, corrected)


def _logaddexp(self: Any, other: Any) -> Any:
    apart = op.Abs(op.Sub(self, other))
    largest = op.Max(self, other)
    # Two infinities of one sign are no distance apart.
    return op.Where(op.IsInf(largest), largest, op.Add(largest, _log1p(op.Exp(op.Neg(apart)))))


def _atan2(self: Any, other: Any) -> Any:
    """The angle of (other, self), the signs of zeros told by their reciprocals."""
    both = op.And(op.IsInf(self), op.IsInf(other))
    self, other = (op.Where(both, op.Sign(value), value) for value in (self, other))
    half_turn = op.Where(_is_negative(self), op.CastLike(-math.pi, self), op.CastLike(math.pi, self))
    steep = op.Where(op.Equal(self, 0.0), op.Mul(self, 0.0), op.Mul(half_turn, 0.5))
    angle = op.Where(op.Equal(other, 0.0), steep, op.Atan(op.Div(self, other)))
    flat = op.Or(op.Not(op.Equal(other, 0.0)), op.Equal(self, 0.0))
    return op.Where(op.And(_is_negative(other), flat), op.Add(angle, half_turn), angle)


def _is_negative(value: Any) -> Any:
    return op.Or(op.Less(value, 0.0), op.And(op.Equal(value, 0.0), op.Less(op.Reciprocal(value), 0.0)))


def _nearest(self: Any, output_size: Any = None, scale_factors: Any = None) -> Any:
    for place, axis in enumerate(range(2, len(self.shape))):
        size = op.Squeeze(op.Shape(self, start=axis, end=axis + 1))
        if scale_factors is None:
            wanted = op.Cast(output_size[place], to=_INT64)
            scale = op.Div(op.Cast(size, to=_FLOAT), op.Cast(wanted, to=_FLOAT))
        else:
            factor = op.Constant(value=ir.tensor(scale_factors[place], ir.DataType.DOUBLE))
            wanted = op.Cast(op.Floor(op.Mul(op.Cast(size, to=_DOUBLE), factor)), to=_INT64)
            scale = op.Constant(value_float=1.0 / scale_factors[place])
        places = op.Floor(op.Mul(op.Cast(op.Range(0, wanted, 1), to=_FLOAT), scale))
        self = op.Gather(self, op.Min(op.Cast(places, to=_INT64), op.Sub(size, 1)), axis=axis)
    return self


def _remainder(self: Any, other: Any) -> Any:
    if _whole(self):
        return op.Mod(self, other)
    rest = op.Mod(self, other, fmod=1)  # has the sign of what is divided
    return op.Where(_on_other_side(rest, other), op.Add(rest, other), rest)


def _floor_divide(self: Any, other: Any) -> Any:
    if _whole(self):
        quotient = op.Div(self, other)  # towards zero
        rest = op.Sub(self, op.Mul(quotient, other))
        return op.Where(_on_other_side(rest, other), op.Sub(quotient, op.CastLike(1, self)), quotient)
    rest = op.Mod(self, other, fmod=1)
    quotient = op.Div(op.Sub(self, rest), other)  # whole but for its rounding
    quotient = op.Where(_on_other_side(rest, other), op.Sub(quotient, 1.0), quotient)
    floor = op.Floor(quotient)
    nearest = op.Where(op.Greater(op.Sub(quotient, floor), 0.5), op.Add(floor, 1.0), floor)
    by_zero = op.Equal(op.CastLike(other, self), 0.0)
    return op.Where(by_zero, op.Div(self, other), nearest)


def _divide(self: Any, other: Any, rounding_mode: str | None = None) -> Any:
    if rounding_mode == "floor":
        return _floor_divide(self, other)
    quotient = op.Div(self, other)
    if rounding_mode is None or _whole(self):  # whole numbers are divided towards zero
        return quotient
    return op.Where(op.Less(quotient, 0.0), op.Ceil(quotient), op.Floor(quotient))


def _whole(value: Any) -> bool:
    return value.dtype.is_integer()


def _on_other_side(rest: Any, other: Any) -> Any:
    """Whether a remainder is not zero and has not the sign of the divisor."""
    zero = op.CastLike(0, rest)
    return op.And(op.Not(op.Equal(rest, zero)), op.Xor(op.Less(rest, zero), op.Less(op.CastLike(other, rest), zero)))


_aten = torch.ops.aten
# Of torch.onnx.export(custom_translation_table=...).
TRANSLATIONS: dict[Callable[..., Any], Callable[..., Any]] = {
    _aten.log_sigmoid.default: _log_sigmoid,
    _aten.expm1.default: _expm1,
    _aten.logaddexp.default: _logaddexp,
    _aten.atan2.default: _atan2,
    _aten.upsample_nearest1d.vec: _nearest,
    _aten.upsample_nearest2d.vec: _nearest,
    _aten.upsample_nearest3d.vec: _nearest,
    _aten.log1p.default: _log1p,
    _aten.remainder.Tensor: _remainder,
    _aten.remainder.Scalar: _remainder,
    _aten.floor_divide.default: _floor_divide,
    _aten.div.Tensor_mode: _divide,
    _aten.div.Scalar_mode: _divide,
}
