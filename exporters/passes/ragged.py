"""Which rows may share a batch: proven, not assumed.

Needs: a measured artifact, its sequences and its batch axis. Guarantees: rows are called independent only where each
gave among others, of other values, magnitudes and orders, what it gives alone; a sequence says `padded` only where that
held for rows of different lengths too, each output trimmed as the sequence says. What whole numbers and flags are made
from is compared with them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnxruntime as ort

from seqport.exporters.passes.draws import FAR, MEASURED, Sizes
from seqport.exporters.passes.gaps import gaps
from seqport.exporters.passes.job import Job
from seqport.exporters.passes.probe import TOLERANCE, Measured
from seqport.exporters.passes.witnesses import Witnesses, is_discrete, witnesses
from seqport.exporters.signature import Input
from seqport.runtime.artifact import SequenceInfo, TensorInfo

Sequences = tuple[SequenceInfo, ...]
Arrays = dict[str, np.ndarray]

# How much larger each row's values are than usual: what limits, centres or scales over a batch shows beside these. One
# row is all zeros, one all NaN.
_MAGNITUDES = (1, 30, 0.1, 1000, 1, 0.01, 0, 3, 1, 1e5, 100, 10, 1, float("nan"), 1)
_TWIN = 8  # this row is the one before it once more
# Rows of a large batch, of which some are run alone: what sets in at a number of rows.
_MANY, _SOME = 48, (0, 1, 17, 33, 47)
_SHAPES = MEASURED[0]._replace(ordered=False)
# Far apart in length: what sets in at a number of padded steps.
_FAR = FAR._replace(shorter=0, ordered=False)


def proven(job: Job, sequences: Sequences, measured: Measured, batch_axis: str | int | None) -> tuple[Sequences, bool]:
    """The sequences, each with its `padded` set by measurement, and whether rows are independent of each other.

    Several sequences are proven together, as they are batched.
    """
    proof = _Proof(job, sequences, measured, batch_axis)
    independent = proof.holds(equal=True)
    padded = bool(sequences) and independent and proof.holds(equal=False)
    return tuple(replace(sequence, padded=padded) for sequence in sequences), independent


class _Proof:
    def __init__(self, job: Job, sequences: Sequences, measured: Measured, batch_axis: str | int | None) -> None:
        self._job, self._sequences, self._measured, self._axis = job, sequences, measured, batch_axis
        self._inputs = job.capture.inputs
        self._by_name = {item.name: item for item in self._inputs}
        lengths = {sequence.lengths for sequence in sequences} | set(measured.draws.roles)
        discrete = [
            info.name for info in measured.outputs if all(is_discrete(run.outputs[info.name]) for run in measured.runs)
        ]
        self._witnesses = witnesses(job.model, self._by_name.keys() - lengths, discrete) or Witnesses(
            measured.session, [], set()
        )

    def holds(self, *, equal: bool) -> bool:
        """Whether every row gives alone what it gives among the others.

        Args:
            equal: whether all rows are as long as the axis; else they are of different lengths, and padded.
        """
        axis = self._axis
        if not isinstance(axis, str) or any(axis not in t.axes for t in (*self._inputs, *self._measured.outputs)):
            return False
        try:
            return all(self._agrees(batch, rows) for batch, rows in self._batches(axis, equal=equal))
        except Exception:  # a row alone is too short for the model, or an output too short to be trimmed: not proven
            return False

    def _batches(self, axis: str, *, equal: bool) -> Iterator[tuple[_Batch, Sequence[int]]]:
        """Batches, and the rows of each that are to be run alone."""
        feed = self._feed(_SHAPES, {axis: len(_MAGNITUDES)}, equal=equal)
        different = self._batch(_of_magnitudes(feed, self._inputs, axis, self._kept()), axis, equal=equal)
        yield different, range(different.rows)
        if equal:
            many = self._batch(self._feed(_SHAPES, {axis: _MANY}, equal=True), axis, equal=True)
            yield many, _SOME
            return
        for run in self._measured.runs:  # rows that fall in length, as some models want them
            batch = self._batch({name: array.copy() for name, array in run.inputs.items()}, axis, equal=False)
            yield batch, range(batch.rows)
        far = self._batch(self._feed(_FAR, {axis: len(_MAGNITUDES)}, equal=False), axis, equal=False)
        by_length = np.argsort(next(iter(far.steps.values())))
        yield far, by_length[[0, 1, len(by_length) // 2, -2, -1]].tolist()

    def _feed(self, shapes: Sizes, rows: Mapping[str, int], *, equal: bool) -> Arrays:
        """Drawn inputs; with equal rows, numbers of a row that are no lengths stay what they are."""
        measured = self._measured
        sizes = {**measured.draws.sizes(shapes, measured.scale), **rows}
        for axis, (_, largest) in measured.limits.items():
            sizes[axis] = min(sizes[axis], largest or sizes[axis])
        feed, whole = (
            measured.draws.arrays(shapes._replace(full=full), measured.scale, measured.kind, sizes)
            for full in (False, True)
        )
        lengths = {sequence.lengths for sequence in self._sequences} if equal else ()
        return {name: whole[name] if name in lengths else array for name, array in feed.items()}

    def _kept(self) -> set[str]:
        draws = self._measured.draws
        lengths = {sequence.lengths for sequence in self._sequences if sequence.lengths}
        return {*draws.example, *draws.roles, *self._job.zeros_and_ones, *lengths}

    def _agrees(self, batch: _Batch, rows: Iterable[int]) -> bool:
        outputs, names = self._measured.outputs, [info.name for info in self._measured.outputs]
        together = _run(self._witnesses.session, [*names, *self._witnesses.names], batch.feed)
        for row in rows:
            feed = batch.alone(row)
            alone = _run(self._witnesses.session, [*names, *self._witnesses.names], feed)
            for info in outputs:
                found = np.take(together[info.name], [row], axis=info.axes.index(batch.batch_axis))
                trimmed, expected = (batch.trimmed(info, array, row) for array in (found, alone[info.name]))
                if self._measured.judge.difference(info.name, feed, trimmed, expected, TOLERANCE, exact=False):
                    return False
            for name in self._witnesses.names:
                same = _same_row(together[name], alone[name], row, batch)
                if not (same or (same is None and name not in self._witnesses.behind_discrete)):
                    return False
        return True

    def _batch(self, feed: Arrays, axis: str, *, equal: bool) -> _Batch:
        """The drawn inputs with their padding made what `predict` pads with."""
        steps: dict[int, np.ndarray] = {}
        for place, sequence in enumerate(self._sequences):
            first, time = next(iter(sequence.inputs.items()))
            size = feed[first].shape[time]
            rows = feed[first].shape[self._by_name[first].axes.index(axis)]
            if sequence.lengths is not None:
                steps[place] = feed[sequence.lengths].reshape(-1).astype(int)
            else:
                steps[place] = np.linspace(size, size if equal else max(1, size // 2), rows).astype(int)
            for name, along in sequence.inputs.items():
                _pad(feed[name], self._by_name[name].axes.index(axis), along, steps[place], sequence)
        return _Batch(feed, steps, axis, self._inputs, self._sequences)


@dataclass(frozen=True)
class _Batch:
    """A padded batch, and where each tensor keeps its rows and steps."""

    feed: Arrays
    steps: dict[int, np.ndarray]  # the position of a sequence → steps of each row
    batch_axis: str
    inputs: Sequence[Input]
    sequences: Sequences

    @property
    def rows(self) -> int:
        item = self.inputs[0]
        return self.feed[item.name].shape[item.axes.index(self.batch_axis)]

    def alone(self, row: int) -> Arrays:
        """The inputs of one row, without its padding."""
        found = {}
        for item in self.inputs:
            array = np.take(self.feed[item.name], [row], axis=item.axes.index(self.batch_axis))
            for place, sequence in enumerate(self.sequences):
                axis = sequence.inputs.get(item.name)
                if axis is not None and isinstance(sequence.axis, str):
                    array = np.take(array, range(self.steps[place][row]), axis=axis)
            found[item.name] = array
        return found

    def trimmed(self, info: TensorInfo, array: np.ndarray, row: int) -> np.ndarray:
        """The output of one row, as `predict` would cut it."""
        for place, sequence in enumerate(self.sequences):
            axis = sequence.outputs.get(info.name)
            if axis is not None:
                array = np.take(array, range(self.steps[place][row]), axis=axis)
        return array


def _run(session: ort.InferenceSession, names: Sequence[str], feed: Arrays) -> dict[str, np.ndarray]:
    return dict(zip(names, map(np.asarray, session.run(names, feed)), strict=True))


def _of_magnitudes(feed: Arrays, inputs: Sequence[Input], axis: str, kept: Collection[str]) -> Arrays:
    """The batch with each row's floats as many times as large."""
    found = dict(feed)
    for item in inputs:
        array = feed[item.name]
        if array.dtype.kind != "f" or item.name in kept or np.isin(array, (0, 1)).all():
            continue
        shape = [len(_MAGNITUDES) if name == axis else 1 for name in item.axes]
        found[item.name] = array * np.array(_MAGNITUDES, array.dtype).reshape(shape)
    for item in inputs:
        if axis in item.axes:
            by_row = np.moveaxis(found[item.name], item.axes.index(axis), 0)  # a view
            by_row[_TWIN] = by_row[_TWIN - 1]
    return found


def _same_row(together: np.ndarray, alone: np.ndarray, row: int, batch: _Batch) -> bool | None:
    """Whether a value inside the graph is the same for a row, its axes told by size; None where they cannot be."""
    if together.ndim != alone.ndim:
        return None
    steps: Mapping[int, int] = {int(counts[row]): place for place, counts in batch.steps.items()}
    for place, (many, one) in enumerate(zip(together.shape, alone.shape, strict=True)):
        if many == one:
            continue
        if many == batch.rows and one == 1:
            together = np.take(together, [row], axis=place)
        elif one in steps and one < many:
            together = np.take(together, range(one), axis=place)
        else:
            return None
    scale = np.abs(alone[np.isfinite(alone)]).max(initial=0.0)
    gap = gaps(together, alone, min(1.0, float(scale)) or 1.0)
    return gap is not None and bool((gap / np.fmax(1.0, np.abs(alone)) <= TOLERANCE).all())


def _pad(array: np.ndarray, batch: int, time: int, steps: np.ndarray, sequence: SequenceInfo) -> None:
    """Write padding behind each row's steps; where the model tells padding by its value, keep that out of the steps."""
    by_row = np.moveaxis(array, (batch, time), (0, 1))  # a view
    if sequence.lengths is None and array.dtype.kind in "iub":
        by_row[by_row == sequence.padding_value] = 1
    for row, count in enumerate(steps.tolist()):
        by_row[row, count:] = sequence.padding_value
