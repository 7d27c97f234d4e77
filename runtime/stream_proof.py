"""Proves that a model gives the same answers in chunks as in one run, before its first stream opens."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from seqport.runtime.stream_draws import LARGE, Draw, MaskOf, padded_ends, part, rounds, whole_row
from seqport.runtime.stream_model import StreamModel
from seqport.runtime.stream_signature import Chunk
from seqport.runtime.stream_state import FRESH

# Of each value where that is above 1, absolute below it.
TOLERANCE = 1e-6
# Of the largest value, where an output has small ones alone: what is lost shows in more than its thousandth part.
_SMALL = 1e-3
# ONNX Runtime's RNN rounds by the shape of its batch (GRU and LSTM do not): chunks may differ by so many times what the
# artifact's own answers to one row do, up to far less than a lost state shows.
_ROUNDINGS, _MOST = 4, 1e-5
Arrays = Mapping[str, np.ndarray]
# What the artifact, as it is, answers to whole sequences of one size in one batch.
Whole = Callable[[Sequence[Chunk]], list[Arrays]]


def mismatch(
    model: StreamModel, whole: Whole, draw: Draw, *, masked_steps: bool, mask_of: MaskOf | None = None
) -> str | None:
    """The first output that differs between whole sequences and their chunks, and how; None where none does.

    Two streams run side by side, with other chunks and out of step, and after every chunk each output is compared: one
    along the steps with all that came so far, any other with its answer to all that came so far.
    """
    random = np.random.default_rng(0)
    for kinds, patterns in rounds(draw):
        rows = [
            whole_row(model.signature, draw, random, masked_steps=masked_steps, kind=kind, mask_of=mask_of)
            for kind in kinds
        ]
        if said := _Round(model, whole, draw, rows, kinds).mismatch(patterns):
            return said
    return _replaced(model, whole, replace(draw, held={}), random) if model.starts_from_own_states else None


class _Round:
    def __init__(
        self, model: StreamModel, whole: Whole, draw: Draw, rows: Sequence[Chunk], kinds: Sequence[str]
    ) -> None:
        self.model, self.signature, self.whole, self.draw = model, model.signature, whole, draw
        self.rows, self.kinds = rows, kinds
        self.answers: dict[tuple[int, int], Arrays] = {}  # (row, steps) → what it gives alone
        self.bound = TOLERANCE

    def mismatch(self, patterns: tuple[tuple[int, ...], tuple[int, ...]]) -> str | None:
        states = [FRESH, FRESH]
        so_far: list[list[Arrays]] = [[], []]
        for ends in zip(*map(padded_ends, patterns, [max(map(len, patterns))] * 2), strict=True):
            chunks = [part(self.signature, row, *end) for row, end in zip(self.rows, ends, strict=True)]
            results = self.model.advance(list(zip(states, chunks, strict=True)))
            states = [state for state, _ in results]
            for which, (_, end) in enumerate(ends):
                so_far[which].append(results[which][1])
                if said := self._differs(which, so_far[which], self._alone(which, end)):
                    sizes = ", ".join(map(str, patterns[which]))
                    how = "one by one" if set(patterns[which]) == {1} else f"in chunks of {sizes}"
                    return f"{said} after {end} of {self.draw.steps} steps {how}"
        return None

    def _differs(self, which: int, so_far: Sequence[Arrays], expected: Arrays) -> str | None:
        for name, slot in self.signature.outputs.items():
            parts = [answers[name] for answers in so_far]
            found = parts[-1] if slot.sequence is None else np.concatenate(parts, axis=slot.row_steps)
            # What a large row is made from is as much larger, and so is what it loses by rounding.
            scale = LARGE if self.kinds[which] == "large" else 1.0
            gap = max(difference(found, expected[name], scale), small_difference(found, expected[name], scale))
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
                scale = LARGE if self.kinds[which] == "large" else 1.0
                gaps = (difference(answers[name], alone[name], scale) for name in self.signature.outputs)
                largest = max([largest, *gaps])
        return largest


def _replaced(model: StreamModel, whole: Whole, draw: Draw, random: np.random.Generator) -> str | None:
    """Whether states that come with a later chunk are the ones that it starts from.

    Needs: all that the model carries are its own states, so that a chunk with all of them is a sequence of its own.
    """
    steps, half = draw.steps, draw.steps // 2
    first, second = (whole_row(model.signature, draw, random, masked_steps=False) for _ in range(2))
    ((state, _),) = model.advance([(FRESH, part(model.signature, first, 0, half))])
    later = part(model.signature, second, half, steps)
    given = Chunk({**later.arrays, **{name: second.arrays[name] for name in model.signature.states}}, later.steps)
    ((_, found),) = model.advance([(state, given)])
    (expected,) = whole([given])
    for name in model.signature.outputs:
        if (gap := difference(found[name], expected[name])) > _MOST:
            states = ", ".join(map(repr, model.signature.states))
            return f"output {name!r} differs by {gap:.2g} where another state ({states}) comes with a later chunk"
    return None


def difference(found: np.ndarray, expected: np.ndarray, scale: float = 1.0) -> float:
    """The largest difference, relative to each value above `scale`; infinite for other shapes or dtypes."""
    if found.shape != expected.shape or found.dtype != expected.dtype:
        return np.inf
    if found.dtype.kind != "f":
        return 0.0 if np.array_equal(found, expected) else np.inf
    finite = np.isfinite(expected)
    same = np.array_equal(found[~finite], expected[~finite], equal_nan=True)
    if not same or not np.isfinite(found[finite]).all():
        return np.inf
    gap = np.abs(found[finite].astype(np.float64) - expected[finite])
    return float((gap / np.maximum(scale, np.abs(expected[finite]))).max(initial=0.0))


def small_difference(found: np.ndarray, expected: np.ndarray, scale: float = 1.0) -> float:
    """The same for outputs of small values alone, in parts of what these may differ by."""
    if found.dtype.kind != "f" or found.shape != expected.shape:
        return 0.0
    finite = np.isfinite(expected)
    largest = float(np.abs(expected[finite]).max(initial=0.0)) / scale
    if largest == 0 or largest * _SMALL >= TOLERANCE:
        return 0.0
    gap = np.abs(found[finite].astype(np.float64) - expected[finite]).max(initial=0.0)
    return float(gap / (largest * scale * _SMALL) * TOLERANCE)
