"""Padding and neighbours must not matter: a row's answers are its own, whatever stands around it.

Needs: an artifact on ONNX Runtime, and a probed batch. Guarantees: for each check, how far it moved an answer. The same
rows run again in another form, so no reference is needed. Where only the surroundings changed and the
shapes did not, even rounding is the same, and nothing may move; another number or order of rows may change
the order of a sum, and with it a rounding to int8 here and there, so there the mean must stay.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import onnxruntime as ort

from seqport.exporters.passes.probe import Measured
from seqport.exporters.passes.runs import Run
from seqport.exporters.signature import Input
from seqport.runtime.artifact import SequenceInfo, TensorInfo

Arrays = dict[str, np.ndarray]
# The steps added to make the padding longer.
_MORE_STEPS = 25
# By how much garbage is larger than data: what has one scale for the whole batch then rounds the data away.
_GARBAGE = 100.0
_EQUAL, _ROUNDED = 1e-6, 1e-4


@dataclass(frozen=True)
class Batch:
    """A padded batch, and where each tensor keeps its rows and steps.

    Attributes:
        feed: the inputs.
        inputs: what they are.
        outputs: what they give.
        axis: the name of the batch axis.
        sequences: the padded axes.
    """

    feed: Arrays
    inputs: Sequence[Input]
    outputs: Sequence[TensorInfo]
    axis: str
    sequences: Sequence[SequenceInfo]

    @property
    def rows(self) -> int:
        """How many there are."""
        name, place = next((i.name, i.axes.index(self.axis)) for i in self.inputs if self.axis in i.axes)
        return self.feed[name].shape[place]

    def steps(self, sequence: SequenceInfo) -> np.ndarray | None:
        """Of each row, where an input counts them."""
        return None if sequence.lengths is None else self.feed[sequence.lengths].reshape(-1).astype(int)

    def take(self, rows: Sequence[int]) -> Arrays:
        """The inputs of some rows."""
        return {
            item.name: np.take(self.feed[item.name], rows, axis=item.axes.index(self.axis))
            if self.axis in item.axes
            else self.feed[item.name]
            for item in self.inputs
        }

    def answers(self, outputs: Sequence[np.ndarray], row: int, steps_of: int) -> list[np.ndarray]:
        """One row of each output, cut to the steps that the batch's row `steps_of` has."""
        found = []
        for info, output in zip(self.outputs, outputs, strict=True):
            array = np.take(output, [row], axis=info.axes.index(self.axis))
            for sequence in self.sequences:
                steps, axis = self.steps(sequence), sequence.outputs.get(info.name)
                if axis is not None and steps is not None:
                    array = np.take(array, range(steps[steps_of]), axis=axis)
            found.append(array)
        return found


def batch_of(
    run: Run, inputs: Sequence[Input], measured: Measured, sequences: Sequence[SequenceInfo], axis: str | None
) -> Batch | None:
    """The probed batch; None where no axis of rows goes through the whole model: there are none to tell apart."""
    if axis is None or any(axis not in info.axes for info in measured.outputs):
        return None
    return Batch(run.inputs, inputs, measured.outputs, axis, sequences)


def moved(session: ort.InferenceSession, batch: Batch) -> dict[str, float]:
    """How far each check moved an answer: infinitely where the artifact does not run on it."""
    names = [info.name for info in batch.outputs]

    def run(feed: Arrays) -> list[np.ndarray]:
        return [np.asarray(array) for array in session.run(names, feed)]

    base = run(batch.feed)
    found = {}
    for name, check in CHECKS.items():
        gaps = []
        for trial in check.trials(batch, np.random.default_rng(0)):
            try:
                outputs = run(trial.feed)
                gaps += [
                    _gap(one, other, check.mean)
                    for at, row in trial.rows.items()
                    for one, other in zip(batch.answers(outputs, at, row), batch.answers(base, row, row), strict=True)
                ]
            except Exception:  # whatever it does not run on, it does not answer as before
                gaps.append(float("inf"))
        if gaps:
            found[name] = max(gaps)
    return found


def faults(exact: dict[str, float], found: dict[str, float]) -> list[str]:
    """The checks that fail, and that did not fail in the model's own precision."""
    return [
        f"a row's answers move by {amount:.3g} {CHECKS[name].what}"
        for name, amount in found.items()
        if amount > CHECKS[name].allowed >= exact.get(name, 0.0)
    ]


def _gap(found: np.ndarray, expected: np.ndarray, mean: bool) -> float:
    if found.shape != expected.shape:
        return float("inf")
    if not np.issubdtype(expected.dtype, np.floating):
        return float(np.mean(found != expected)) if expected.size else 0.0
    same = (found == expected) | (np.isnan(found) & np.isnan(expected))
    with np.errstate(invalid="ignore"):
        gap = np.abs(found.astype(np.float64) - expected) / np.maximum(1.0, np.abs(expected))
    gap = np.where(same, 0.0, np.where(np.isfinite(gap), gap, np.inf))
    return float(gap.mean() if mean and gap.size else gap.max(initial=0.0))


class _Trial(NamedTuple):
    feed: Arrays
    rows: dict[int, int]  # a row of it → the row of the batch that it is


def _same(batch: Batch) -> dict[int, int]:
    return {row: row for row in range(batch.rows)}


def _other_values(array: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Values from elsewhere in it, in its shape; far larger where they are no ids."""
    values = random.choice(array.reshape(-1), array.shape)
    return (values * _GARBAGE).astype(array.dtype) if array.dtype.kind == "f" else values


def _filled(batch: Batch, feed: Arrays, random: np.random.Generator) -> Arrays:
    """Garbage in the padding."""
    filled = dict(feed)
    for sequence in batch.sequences:
        steps = batch.steps(sequence)
        for item in batch.inputs:
            time = sequence.inputs.get(item.name)
            if steps is None or time is None or batch.axis not in item.axes:
                continue
            array = filled[item.name].copy()
            by_row = np.moveaxis(array, (item.axes.index(batch.axis), time), (0, 1))  # a view
            padding = np.arange(by_row.shape[1]) >= steps[:, None]
            by_row[padding] = np.moveaxis(_other_values(array, random), (item.axes.index(batch.axis), time), (0, 1))[
                padding
            ]
            filled[item.name] = array
    return filled


def _garbage(batch: Batch, random: np.random.Generator) -> Iterator[_Trial]:
    if any(sequence.lengths for sequence in batch.sequences):
        yield _Trial(_filled(batch, batch.feed, random), _same(batch))


def _longer(batch: Batch, random: np.random.Generator) -> Iterator[_Trial]:
    feed = dict(batch.feed)
    counted = [s for s in batch.sequences if s.lengths is not None and isinstance(s.axis, str)]
    for sequence in counted:
        for name, axis in sequence.inputs.items():
            widths = [(0, _MORE_STEPS if place == axis else 0) for place in range(feed[name].ndim)]
            feed[name] = np.pad(feed[name], widths)
    if counted:
        yield _Trial(_filled(batch, feed, random), _same(batch))


def _neighbours(batch: Batch, random: np.random.Generator) -> Iterator[_Trial]:
    """All other rows hold other values; their lengths stay."""
    lengths = {sequence.lengths for sequence in batch.sequences}
    for row in range(batch.rows):
        feed = dict(batch.feed)
        for item in batch.inputs:
            if batch.axis not in item.axes or item.name in lengths:
                continue
            array, place = _other_values(feed[item.name], random), item.axes.index(batch.axis)
            by_row = np.moveaxis(array, place, 0)  # a view
            by_row[row] = np.moveaxis(feed[item.name], place, 0)[row]
            feed[item.name] = array
        yield _Trial(feed, {row: row})


def _alone(batch: Batch, random: np.random.Generator) -> Iterator[_Trial]:  # noqa: ARG001
    for row in range(batch.rows):
        yield _Trial(batch.take([row]), {0: row})


def _permuted(batch: Batch, random: np.random.Generator) -> Iterator[_Trial]:
    order = random.permutation(batch.rows).tolist()
    yield _Trial(batch.take(order), dict(enumerate(order)))


class _Check(NamedTuple):
    what: str
    trials: Callable[[Batch, np.random.Generator], Iterator[_Trial]]
    allowed: float
    mean: bool


CHECKS = {
    "garbage": _Check("with garbage in the padding", _garbage, _EQUAL, mean=False),
    "longer": _Check("with a longer padding", _longer, _ROUNDED, mean=True),
    "neighbours": _Check("with other values in the other rows", _neighbours, _EQUAL, mean=False),
    "alone": _Check("when it runs alone", _alone, _ROUNDED, mean=True),
    "permuted": _Check("in another order of the rows", _permuted, _ROUNDED, mean=True),
}
