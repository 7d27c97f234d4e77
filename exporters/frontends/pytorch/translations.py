"""PyTorch operators whose usual translation to ONNX holds for some values only, in forms that hold for all.

Needs: torch.onnx, which takes them as its custom translation table. Guarantees: the formulas of PyTorch's own CPU
kernels, or others as exact: log(sigmoid(x)) is -inf from x = -18 on in ONNX Runtime, log(1 + x) and exp(x) - 1 lose
small x, and floor(a / b) is off by one where a / b rounds up to a whole number (0.6 // 0.1, 0.3 // 0.1).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from onnxscript import opset18

op: Any = opset18  # its types are those of graphs, and here values stand for them


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
    _aten.log1p.default: _log1p,
    _aten.remainder.Tensor: _remainder,
    _aten.remainder.Scalar: _remainder,
    _aten.floor_divide.default: _floor_divide,
    _aten.div.Tensor_mode: _divide,
    _aten.div.Scalar_mode: _divide,
}
