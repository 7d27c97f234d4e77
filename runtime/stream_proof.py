"""Proves that a model gives the same answers in chunks as in one run, before its first stream opens."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import numpy as np

from seqport.runtime.stream_model import StreamModel
from seqport.runtime.stream_signature import Chunk, StreamSignature
from seqport.runtime.stream_state import FRESH

# Of each value where that is above 1, absolute below it.
TOLERANCE = 1e-6
# ONNX Runtime's RNN rounds by the shape of its batch (GRU and LSTM do not): chunks may differ by so many times what the
# artifact's own answers to one row do, up to far less than a lost state shows.
_ROUNDINGS, _MOST = 4, 1e-5
_FEWEST = 6  # steps: two chunks, and every one of them alone
_OTHER = 3  # size of a dynamic axis that is neither batch nor steps
Arrays = Mapping[str, np.ndarray]
# What the artifact, as it is, answers to whole sequences of one size in one batch.
Whole = Callable[[Sequence[Chunk]], list[Arrays]]


@dataclass(frozen=True)
class Draw:
    """What may come in, for random inputs.

    Attributes:
        steps: of a whole sequence.
        tables: the ids that an input of whole numbers may have, from 0.
    """

    steps: int
    tables: Mapping[str, int]

    @classmethod
    def beyond(cls, reach: int, tables: Mapping[str, int]) -> Draw:
        """Sequences longer than what layers reach over."""
        return cls(_FEWEST + reach, tables)


def mismatch(model: StreamModel, whole: Whole, draw: Draw, *, masked_steps: bool) -> str | None:
    """The first output that differs between whole sequences and their chunks, and how; None where none does.

    Two streams run side by side, with other chunks and out of step, and after every chunk each output is compared: one
    along the steps with all that came so far, any other with its answer to all that came so far.
    """
    return _Proof(model, whole, draw, masked_steps).mismatch()


class _Proof:
    def __init__(self, model: StreamModel, whole: Whole, draw: Draw, masked_steps: bool) -> None:
        random = np.random.default_rng(0)
        self.model, self.signature, self.whole, self.draw = model, model.signature, whole, draw
        self.rows = [whole_row(self.signature, draw, random, masked_steps=masked_steps) for _ in range(2)]
        self.answers: dict[tuple[int, int], Arrays] = {}  # (row, steps) → what it gives alone
        self.bound = TOLERANCE

    def mismatch(self) -> str | None:
        for patterns in _patterns(self.draw.steps):
            states = [FRESH, FRESH]
            so_far: list[list[Arrays]] = [[], []]
            for ends in zip(*map(_padded_ends, patterns, [max(map(len, patterns))] * 2), strict=True):
                chunks = [part(self.signature, row, *end) for row, end in zip(self.rows, ends, strict=True)]
                results = self.model.advance(list(zip(states, chunks, strict=True)))
                states = [state for state, _ in results]
                for which, (_, end) in enumerate(ends):
                    so_far[which].append(results[which][1])
                    if said := self._differs(so_far[which], self._alone(which, end)):
                        sizes = ", ".join(map(str, patterns[which]))
                        how = "one by one" if set(patterns[which]) == {1} else f"in chunks of {sizes}"
                        return f"{said} after {end} of {self.draw.steps} steps {how}"
        return None

    def _differs(self, so_far: Sequence[Arrays], expected: Arrays) -> str | None:
        for name, slot in self.signature.outputs.items():
            parts = [answers[name] for answers in so_far]
            found = parts[-1] if slot.sequence is None else np.concatenate(parts, axis=slot.row_steps)
            gap = difference(found, expected[name])
            if gap <= self.bound:
                continue
            self.bound = max(TOLERANCE, min(_ROUNDINGS * self._rounding(), _MOST))
            if gap > self.bound:
                much = f"has the shape {list(found.shape)}, not {list(expected[name].shape)}"
                if found.shape == expected[name].shape:
                    much = f"differs by {gap:.2g}, more than {self.bound:.2g}" if np.isfinite(gap) else "differs"
                return f"output {name!r} {much},"
        return None

    def _alone(self, which: int, end: int) -> Arrays:
        if (which, end) not in self.answers:
            (self.answers[which, end],) = self.whole([part(self.signature, self.rows[which], 0, end)])
        return self.answers[which, end]

    def _rounding(self) -> float:
        """By how much the artifact's own answers to whole sequences move when the two share a batch."""
        largest = 0.0
        for end in {1, self.draw.steps // 2, self.draw.steps}:
            together = self.whole([part(self.signature, row, 0, end) for row in self.rows])
            for which, answers in enumerate(together):
                alone = self._alone(which, end)
                largest = max([largest, *(difference(answers[name], alone[name]) for name in self.signature.outputs)])
        return largest


def whole_row(signature: StreamSignature, draw: Draw, random: np.random.Generator, *, masked_steps: bool) -> Chunk:
    """A random sequence, with masked steps in it where the model masks by value and `masked_steps` says so."""
    masked = random.random(draw.steps) < 0.4
    arrays = {}
    for name, slot in signature.inputs.items():
        axes = slot.row_axes
        shape = [axis if isinstance(axis, int) else _OTHER for axis in axes]
        if slot.sequence is not None:
            shape[slot.row_steps] = draw.steps
        ids = draw.tables.get(name, 2 if slot.sequence else draw.steps + 1)
        array = _random(random, np.dtype(slot.info.dtype), shape, ids)
        if name in signature.mask_inputs:
            by_step = np.moveaxis(array, slot.row_steps, 0)  # a view
            value = signature.sequence.padding_value
            by_step[by_step == value] = True if array.dtype.kind == "b" else 1
            if masked_steps:
                by_step[masked] = value
        arrays[name] = array
    return Chunk(arrays, draw.steps)


def _random(random: np.random.Generator, dtype: np.dtype, shape: list[int], ids: int) -> np.ndarray:
    if dtype.kind == "f":
        return random.standard_normal(shape).astype(dtype)
    return random.integers(0, 2 if dtype.kind == "b" else ids, shape).astype(dtype)


def part(signature: StreamSignature, row: Chunk, start: int, end: int) -> Chunk:
    """Some steps of a sequence; a state comes with the first of them."""
    arrays = {}
    for name, slot in signature.inputs.items():
        if name in signature.states and start:
            continue
        array = row.arrays[name]
        arrays[name] = array if slot.sequence is None else array.take(range(start, end), axis=slot.row_steps)
    return Chunk(arrays, end - start)


def difference(found: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference, relative to each value where that is above 1; infinite for other shapes or dtypes."""
    if found.shape != expected.shape or found.dtype != expected.dtype:
        return np.inf
    if found.dtype.kind != "f":
        return 0.0 if np.array_equal(found, expected) else np.inf
    finite = np.isfinite(expected)
    same = np.array_equal(found[~finite], expected[~finite], equal_nan=True)
    if not same or not np.isfinite(found[finite]).all():
        return np.inf
    gap = np.abs(found[finite].astype(np.float64) - expected[finite])
    return float((gap / np.maximum(1.0, np.abs(expected[finite]))).max(initial=0.0))


def _patterns(steps: int) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Sizes of the chunks of two streams: single steps, an empty chunk, halves, all but the last."""
    half = steps // 2
    singles = (1,) * steps if steps <= 2 * _FEWEST else (1, 1, steps - 4, 1, 1)
    yield singles, (2, 0, steps - 2)
    yield (half, steps - half), (1, steps - 1)
    yield (steps - 1, 1), (steps,)


def _padded_ends(pattern: Sequence[int], count: int) -> list[tuple[int, int]]:
    """Where each chunk starts and ends, with empty chunks behind the last."""
    ends = [0, *accumulate(pattern)]
    ends += [ends[-1]] * (count + 1 - len(ends))
    return list(pairwise(ends))
