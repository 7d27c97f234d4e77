"""Values for the inputs of a hunted model: those that users meet, by what an input's name says that it holds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from hunt.layers import IDS
from seqport.exporters import Input

Arrays = dict[str, np.ndarray]
USUAL = "usual values"
_COUNTS_STEPS = ("lengths", "last", "padding")


def feeds(
    inputs: Sequence[Input], batch: int, steps: int, random: np.random.Generator, *, all_kinds: bool = True
) -> Iterator[tuple[str, Arrays]]:
    """Batches of one size, and what their values are."""
    usual = {i.name: _usual(i, _shape(i, batch, steps), random, steps) for i in inputs}
    yield USUAL, usual
    if not all_kinds:
        return
    kinds = {
        "values 30 times as large": lambda x: x * 30,
        "zeros": np.zeros_like,
        "a constant channel": _flat,
        "multiples of 0.1": lambda x: np.round(x * 10) / 10,
    }
    for kind, made in kinds.items():
        changed = {i.name: made(usual[i.name]).astype("f4") for i in inputs if _is_free(i)}
        if changed:
            yield kind, {**usual, **changed}


def row_alone(inputs: Sequence[Input], steps: int, random: np.random.Generator, factor: float = 1.0) -> Arrays:
    """A batch of one row, which has all its steps."""
    arrays = {i.name: _usual(i, _shape(i, 1, steps), random, steps) for i in inputs}
    for i in inputs:
        if i.name in _COUNTS_STEPS:
            arrays[i.name][:] = {"lengths": steps, "last": steps - 1, "padding": 0}[i.name]
        elif _is_free(i):
            arrays[i.name] = (arrays[i.name] * factor).astype("f4")
    return arrays


def first_steps(inputs: Sequence[Input], row: Arrays, steps: int) -> Arrays:
    """The same of its first steps."""
    less = part(inputs, row, 0, steps)
    taken = next(size for i in inputs if "seq" in i.axes for size in [row[i.name].shape[i.axes.index("seq")]])
    for i in inputs:
        if i.name in ("lengths", "last"):
            less[i.name] = row[i.name] - (taken - steps)
    return {name: np.ascontiguousarray(array) for name, array in less.items()}


def part(inputs: Sequence[Input], row: Arrays, start: int, end: int) -> Arrays:
    """Some steps of each input that has steps, and the others."""
    along = {i.name: i.axes.index("seq") for i in inputs if "seq" in i.axes}
    return {
        name: array.take(np.arange(start, end), along[name]) if name in along else array for name, array in row.items()
    }


def item(inputs: Sequence[Input], row: Arrays, without: str | None) -> Arrays:
    """A batch of one row, without the axis of the batch and without one input."""
    return {i.name: row[i.name].squeeze(i.axes.index("batch")) for i in inputs if i.name != without}


def _shape(i: Input, batch: int, steps: int) -> tuple[int, ...]:
    return tuple({"batch": batch, "seq": steps}.get(axis, axis) for axis in i.axes)  # type: ignore[misc]


def _is_free(i: Input) -> bool:
    """Whether any float may come in."""
    return i.dtype == "float32" and i.name not in (*_COUNTS_STEPS, "mask")


def _flat(x: np.ndarray) -> np.ndarray:
    flat = x.copy()
    flat[..., 0] = 1.5
    if flat.ndim == 3:
        flat[:1, flat.shape[1] // 2 :] = 0
    return flat


def _usual(i: Input, shape: tuple[int, ...], random: np.random.Generator, steps: int) -> np.ndarray:
    if i.name in _COUNTS_STEPS:
        counts = random.integers(1, steps + 1, shape)
        counts[len(counts) // 2] = steps
        return {"lengths": counts, "last": counts - 1, "padding": steps - counts}[i.name].astype(i.dtype)
    if i.name == "ids":
        return random.choice([0, 1, 2, *range(3, IDS)], shape).astype(i.dtype)
    if i.name == "mask":
        return (random.random(shape) < 0.7).astype(i.dtype)
    return random.standard_normal(shape).astype(i.dtype)
