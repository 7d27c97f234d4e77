"""What a trace took for granted about sizes: the tracer's own list of it.

Needs: a traced program. Guarantees: a size that holds up to a bound only is refused with that bound, and a loop whose
number of steps follows from an axis by more than a difference (half of it, say) is found; so are the sizes at which
something that the trace took for granted ends, for the probe to look at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import sympy
import torch

from seqport.exporters.errors import RefusedError

# Sizes that no bound of a module's own reaches, but every number of the tracer's does.
_FAR = 10**6
# Sizes below the first are looked at one by one; above the second a comparison would take too long.
_NEAR, _LARGEST = 34, 4096


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


def turning_sizes(program: torch.export.ExportedProgram, axes: Mapping[sympy.Symbol, str]) -> list[dict[str, int]]:
    """Sizes of the axes, one of them not the traced one, at which what the trace took for granted no longer holds.

    `if x.size(1) == 4` was traced on one side of that test, and only size 4 tells whether the other is another model.

    Args:
        program: traced.
        axes: the axis of each of the tracer's symbols.
    """
    traced = traced_symbols(program)
    found: set[tuple[str, int]] = set()
    for guard in dict.fromkeys(_guards(program)):
        numbers = {int(number) for number in guard.atoms(sympy.Integer)}
        near = {*range(2, _NEAR), *(number + by for number in numbers for by in (-1, 0, 1))}
        for symbol in guard.free_symbols & axes.keys():
            if isinstance(guard, sympy.Eq) and symbol in (guard.lhs, guard.rhs):
                continue  # the size itself, which a loop over it fixed
            at = partial(_holds, guard, symbol, traced)
            usual = traced[symbol]
            ends = [size for size in near if 1 < size <= _LARGEST and not at(size)]
            for side in ([size for size in ends if size < usual], [size for size in ends if size > usual]):
                if side:
                    found.add((axes[symbol], _nearest(at, usual, min(side, key=lambda size: abs(size - usual)))))
    usual_sizes = {name: traced[symbol] for symbol, name in axes.items()}
    return [{**usual_sizes, axis: size} for axis, size in sorted(found)]


def _holds(guard: Any, symbol: sympy.Symbol, traced: Mapping[sympy.Symbol, int], size: int) -> bool:
    return guard.subs({**traced, symbol: size}) != sympy.false


def _nearest(at: Callable[[int], bool], good: int, bad: int) -> int:
    """A size at which it does not hold, right beside one at which it does."""
    while abs(bad - good) > 1:
        middle = (good + bad) // 2
        good, bad = (middle, bad) if at(middle) else (good, middle)
    return bad


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
