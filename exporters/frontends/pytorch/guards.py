"""What a trace took for granted about sizes: the tracer's own list of it.

Needs: a traced program. Guarantees: a size that holds up to a bound only is refused with that bound, and a loop whose
number of steps follows from an axis by more than a difference (half of it, say) is found; what the trace took for
granted is given as functions of the sizes, for the probe to look where they turn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import sympy
import torch

from seqport.exporters.comparisons import Condition
from seqport.exporters.errors import RefusedError

# Sizes that no bound of a module's own reaches, but every number of the tracer's does.
_FAR = 10**6


def _of_floats(function: Callable[..., Any], *, whole: bool = False) -> Callable[..., Any]:
    """A function of NumPy's that computes in float64, as Python does."""

    def apply(*values: Any) -> Any:
        found = function(*(np.asarray(value, np.float64) for value in values))
        return found.astype(np.int64) if whole else found

    return apply


# What the tracer calls its functions → the same over arrays.
_NUMPY: dict[str, Callable[..., Any]] = {
    "FloorDiv": np.floor_divide,
    "CleanDiv": np.floor_divide,
    "Mod": np.mod,
    "PythonMod": np.mod,
    "ModularIndexing": lambda base, divisor, modulus: np.mod(np.floor_divide(base, divisor), modulus),
    "ToFloat": _of_floats(np.asarray),
    "IntTrueDiv": _of_floats(np.divide),
    "FloatTrueDiv": _of_floats(np.divide),
    "PowByNatural": _of_floats(np.power),
    "FloatPow": _of_floats(np.power),
    "CeilToInt": _of_floats(np.ceil, whole=True),
    "FloorToInt": _of_floats(np.floor, whole=True),
    "TruncToInt": _of_floats(np.trunc, whole=True),
    "TruncToFloat": _of_floats(np.trunc),
    "RoundToInt": _of_floats(np.rint, whole=True),
    "RoundDecimal": lambda value, digits: np.round(value, int(digits)),
    "Max": lambda *values: reduce(np.maximum, values),
    "Min": lambda *values: reduce(np.minimum, values),
    "Where": np.where,
    "LShift": np.left_shift,
    "RShift": np.right_shift,
    "BitwiseFn_bitwise_and": np.bitwise_and,
    "BitwiseFn_bitwise_or": np.bitwise_or,
    "BitwiseFn_bitwise_xor": np.bitwise_xor,
    "CeilDiv": lambda base, divisor: -np.floor_divide(-base, divisor),
    "OpaqueUnaryFn_sqrt": _of_floats(np.sqrt),
    "OpaqueUnaryFn_log2": _of_floats(np.log2),
    "OpaqueUnaryFn_log": _of_floats(np.log),
    "OpaqueUnaryFn_exp": _of_floats(np.exp),
    "Identity": lambda value: value,
}


def unsolved_steps(program: torch.export.ExportedProgram) -> dict[sympy.Symbol, set[int]]:
    """Size → traced numbers of steps that follow from it, where the tracer could not solve for the size."""
    found: dict[sympy.Symbol, set[int]] = {}
    for guard in _guards(program):
        # Steps are two or more; a remainder that must be 0 is what a reshape wants.
        if isinstance(guard, sympy.Eq) and isinstance(guard.rhs, sympy.Integer) and not guard.lhs.is_Symbol:
            if int(guard.rhs) < 2:
                continue
            for symbol in guard.lhs.free_symbols:
                found.setdefault(symbol, set()).add(int(guard.rhs))  # type: ignore[arg-type]
    return found


def require_unbounded(program: torch.export.ExportedProgram, axes: Mapping[sympy.Symbol, str]) -> None:
    """Refuse a loop that takes at most so many steps, or one side of a branch on a size.

    Args:
        program: traced.
        axes: the axis of each of the tracer's symbols.

    Raises:
        RefusedError: the trace holds up to a bound only.
    """
    for guard in _guards(program):
        for symbol in guard.free_symbols & axes.keys():
            bound = _bound(guard, symbol, traced_symbols(program))  # type: ignore[arg-type]
            if (
                bound is not None and bound != traced_symbols(program)[symbol]
            ):  # a while loop compares with the size itself
                raise RefusedError(
                    "the model",
                    f"holds for {axes[symbol]!r} of {bound} at most: forward limits a number of steps to that, or "
                    "takes one side of a Python branch",
                    "run the loop over the whole axis (range(x.size(1))) and give the module an input that is cut, or "
                    f"declare {axes[symbol]!r} with a fixed size",
                )


def conditions_of(program: torch.export.ExportedProgram, names: Mapping[sympy.Symbol, str]) -> list[Condition]:
    """What the trace took for granted, as functions of the sizes.

    `if x.size(1) == 4` was traced on one side of that test, and only size 4 tells whether the other is another model.

    Args:
        program: traced.
        names: the axis, or the lengths whose largest it is, behind each of the tracer's symbols.
    """
    traced = traced_symbols(program)
    found: dict[Any, Condition] = {}
    for guard in getattr(_environment(program), "guards", ()):
        free = [symbol for symbol in sorted(guard.expr.free_symbols, key=str) if symbol in names]
        is_size = isinstance(guard.expr, sympy.Eq) and (guard.expr.lhs.is_Symbol or guard.expr.rhs.is_Symbol)
        if guard.expr in found or not free or is_size:
            continue  # the size itself, which a loop over it fixed
        expression = guard.expr.xreplace({s: sympy.Integer(n) for s, n in traced.items() if s not in names})
        at = _function(expression, {symbol: names[symbol] for symbol in free})
        found[guard.expr] = Condition(at, at, [names[symbol] for symbol in free], _line(guard), everywhere=False)
    return list(found.values())


def _function(expression: Any, names: Mapping[sympy.Symbol, str]) -> Callable[[Mapping[str, Any]], Any]:
    """An expression of the tracer's as a function of sizes by name."""
    function = sympy.lambdify(list(names), expression, [_NUMPY, "numpy"])

    def at(sizes: Mapping[str, Any]) -> Any:
        with np.errstate(all="ignore"):
            return function(*(sizes[name] for name in names.values()))

    return at


def _line(guard: Any) -> str:
    """The line that a guard comes from; none where that is one of PyTorch's own."""
    frame = guard.sloc.framework_loc
    if not hasattr(frame, "lineno") or "torch" in Path(frame.filename).parts:
        return ""
    return f"{Path(frame.filename).name}:{frame.lineno}" + (f" ({frame.line})" if frame.line else "")


def _environment(program: torch.export.ExportedProgram) -> Any:
    for node in program.graph.nodes:
        mode = getattr(node.meta.get("val"), "fake_mode", None)
        if mode is not None and mode.shape_env is not None:
            return mode.shape_env
    return None


def traced_symbols(program: torch.export.ExportedProgram) -> dict[sympy.Symbol, int]:
    """The tracer's symbols, and the size that each was traced at."""
    environment = _environment(program)
    hints = getattr(environment, "backed_var_to_val", None) or getattr(environment, "var_to_val", {})
    return {symbol: int(value) for symbol, value in hints.items()}


def _guards(program: torch.export.ExportedProgram) -> Iterator[Any]:
    environment = _environment(program)
    yield from (guard.expr for guard in getattr(environment, "guards", ()))


def _bound(guard: Any, symbol: sympy.Symbol, hints: Mapping[sympy.Symbol, int]) -> int | None:
    """The largest size at which the guard holds, or None where it holds at any."""
    others = {other: value for other, value in hints.items() if other != symbol}

    def at(expression: Any, size: int) -> Any:
        return expression.subs({**others, symbol: size})

    if isinstance(guard, sympy.Eq):
        left = guard.lhs
        limited = not left.is_Symbol and at(left, _FAR) == at(left, 2 * _FAR)
        value = at(left, _FAR)
        return int(value) if limited and value.is_Integer and at(left, int(value)) == value else None
    if at(guard, _FAR) != sympy.false:
        return None
    low, high = hints.get(symbol, 1), _FAR
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if at(guard, middle) == sympy.false else (middle, high)
    return low
