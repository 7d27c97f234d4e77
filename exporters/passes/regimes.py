"""Values that users meet and a normal distribution never draws: zeros, ties, constants, large and undefined ones.

Needs: inputs drawn for the proof. Guarantees: for each regime the same shapes with other values, the same for the same
draw; lengths, masks and the user's own example stay as they were, because other values would make another request.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np

from seqport.exporters.signature import Input

Arrays = dict[str, np.ndarray]
Vary = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def _zeros(array: np.ndarray, random: np.random.Generator) -> np.ndarray:  # noqa: ARG001
    return np.zeros_like(array)


def _flat(array: np.ndarray, random: np.random.Generator) -> np.ndarray:  # noqa: ARG001
    """A row of zeros, a step of zeros in every row, and a channel that never moves.

    The constant has few binary digits, so that its mean over any number of steps is itself.
    """
    if not array.ndim:
        return np.zeros_like(array)
    array = array.copy()
    array[..., :1] = 2.5
    array[:1] = 0
    if array.ndim > 2:
        array[:, array.shape[1] // 2] = 0
    return array


def _along_rows(array: np.ndarray, factors: Sequence[float]) -> np.ndarray:
    """One factor a row, again and again; shaped to go with the array."""
    if not array.ndim:
        return np.array(factors[0], array.dtype)
    return np.resize(np.array(factors, array.dtype), len(array)).reshape(-1, *[1] * (array.ndim - 1))


def _times(*factors: float) -> Vary:
    return lambda array, random: array * _along_rows(array, factors)  # noqa: ARG005


def _multiples(*units: float) -> Vary:
    """Exact ties, and both zeros: a normal draw rounds to -0.0 as often as to 0.0."""

    def vary(array: np.ndarray, random: np.random.Generator) -> np.ndarray:  # noqa: ARG001
        unit = _along_rows(array, units)
        return (np.round(array / unit) * unit).astype(array.dtype)

    return vary


def _undefined(array: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """NaN and both infinities at one element in twenty."""
    values = random.choice(np.array([np.nan, np.inf, -np.inf]), array.shape).astype(array.dtype)
    return np.where(random.random(array.shape) < 0.05, values, array)


# Of floats: few, with several factors in each, because some models run in Python, step by step. Their order is that of
# likelihood, and the first that differs is the one that is reported.
FLOATS: Mapping[str, Vary] = {
    "zeros": _zeros,
    "zero rows, zero steps and a constant channel": _flat,
    "values 30 to 1000 times as large": _times(1000, 30, 100),
    "values 10000 times as small": _times(1e-4),
    "multiples of 0.5 and 0.1": _multiples(0.1, 0.5),
}
UNDEFINED: Mapping[str, Vary] = {"NaN and infinities": _undefined}


def _whole(low: int, high: int) -> Vary:
    def vary(array: np.ndarray, random: np.random.Generator) -> np.ndarray:
        limits = np.iinfo(array.dtype)
        return random.integers(max(low, limits.min), min(high, limits.max), array.shape, array.dtype, endpoint=True)

    return vary


def _beyond_int32(array: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Around the ends of int32, which 64-bit numbers are cut to where somebody forgot them."""
    limits = np.iinfo(array.dtype)
    ends = np.array([n for n in (2**31 + 5, 2**40 + 1, 2**31 - 1, 255, 3) if n <= limits.max], array.dtype)
    return random.choice(ends, array.shape)


WHOLE: Mapping[str, Vary] = {
    "whole numbers up to 300": _whole(0, 300),
    "whole numbers beyond 2**31": _beyond_int32,
}


def _negative(array: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Small ones of both signs; of few numbers, the first is below zero."""
    values = _whole(-9, 9)(array, random)
    values.flat[:1] = -1
    return values


NEGATIVE: Mapping[str, Vary] = {"negative whole numbers": _negative}


def varied(
    arrays: Mapping[str, np.ndarray],
    inputs: Sequence[Input],
    kept: Collection[str],
    vary: Vary,
    *,
    floats: bool,
) -> Arrays | None:
    """The arrays with the values of one regime.

    Args:
        arrays: as they were drawn.
        inputs: what they are.
        kept: inputs that keep their values.
        vary: of the regime.
        floats: whether it is one of floats; else of whole numbers.

    Returns:
        None where no input is of its kind.
    """
    random = np.random.default_rng(7)
    kinds = "f" if floats else "i"
    chosen = [item.name for item in inputs if item.name not in kept and arrays[item.name].dtype.kind in kinds]
    if not chosen:
        return None
    with np.errstate(over="ignore"):  # float16 ends at 65504
        return {**arrays, **{name: np.asarray(vary(arrays[name], random)) for name in chosen}}
