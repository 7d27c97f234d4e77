"""Which rows may share a batch: proven, not assumed.

Needs: a measured artifact, its sequences and its batch axis. Guarantees: rows are called independent only where each
gave among others, of other values, magnitudes and orders, what it gives alone; a sequence says `padded` only where that
held for rows of different lengths too, each output trimmed as the sequence says. What whole numbers and flags are made
from is compared with them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnxruntime as ort

from seqport.exporters.passes.draws import MEASURED
from seqport.exporters.passes.job import Job
from seqport.exporters.passes.judgement import gaps
from seqport.exporters.passes.probe import TOLERANCE, Measured
from seqport.exporters.passes.witnesses import is_discrete, session_with_witnesses
from seqport.exporters.signature import Input
from seqport.runtime.artifact import SequenceInfo, TensorInfo

Sequences = tuple[SequenceInfo, ...]
Arrays = dict[str, np.ndarray]

# How much larger each row's values are than usual: what limits, centres or scales over a batch shows beside these.
_MAGNITUDES = (1, 30, 0.1, 1000, 1, 0.01, 100, 3, 1, 0.3, 10, 1)
_SHAPES = MEASURED[0]._replace(ordered=False)


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
        discrete = [
            info.name for info in measured.outputs if all(is_discrete(run.outputs[info.name]) for run in measured.runs)
        ]
        found = session_with_witnesses(job.model, discrete)
        self._session, self._witnesses = found or (measured.session, [])

    def holds(self, *, equal: bool) -> bool:
        """Whether every row gives alone what it gives among the others.

        Args:
            equal: whether all rows are as long as the axis; else they are of different lengths, and padded.
        """
        axis = self._axis
        if not isinstance(axis, str) or any(axis not in t.axes for t in (*self._inputs, *self._measured.outputs)):
            return False
        try:
            return all(self._agrees(batch) for batch in self._batches(axis, equal=equal))
        except Exception:  # a row alone is too short for the model, or an output too short to be trimmed: not proven
            return False

    def _batches(self, axis: str, *, equal: bool) -> Iterator[_Batch]:
        measured = self._measured
        sizes = _SHAPES._replace(full=equal)
        feed = measured.draws.arrays(sizes, measured.scale, measured.kind, {axis: len(_MAGNITUDES)})
        yield self._batch(_of_magnitudes(feed, self._inputs, axis, self._kept()), axis, equal=equal)
        if not equal:
            for run in measured.runs:  # rows that fall in length, as some models want them
                yield self._batch({name: array.copy() for name, array in run.inputs.items()}, axis, equal=False)

    def _kept(self) -> set[str]:
        draws = self._measured.draws
        return {*draws.example, *draws.roles, *self._job.zeros_and_ones}

    def _agrees(self, batch: _Batch) -> bool:
        outputs, names = self._measured.outputs, [info.name for info in self._measured.outputs]
        together = _run(self._session, [*names, *self._witnesses], batch.feed)
        for row in range(batch.rows):
            feed = batch.alone(row)
            alone = _run(self._session, [*names, *self._witnesses], feed)
            for info in outputs:
                found = np.take(together[info.name], [row], axis=info.axes.index(batch.batch_axis))
                trimmed, expected = (batch.trimmed(info, array, row) for array in (found, alone[info.name]))
                if self._measured.judge.difference(info.name, feed, trimmed, expected, TOLERANCE, exact=False):
                    return False
            for name in self._witnesses:
                if not _same_row(together[name], alone[name], row, batch):
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
    return found


def _same_row(together: np.ndarray, alone: np.ndarray, row: int, batch: _Batch) -> bool:
    """Whether a value inside the graph is the same for a row; its axes are told by their sizes."""
    if together.ndim != alone.ndim:
        return False
    steps: Mapping[int, int] = {int(counts[row]): place for place, counts in batch.steps.items()}
    for place, (many, one) in enumerate(zip(together.shape, alone.shape, strict=True)):
        if many == one:
            continue
        if many == batch.rows and one == 1:
            together = np.take(together, [row], axis=place)
        elif one in steps and one < many:
            together = np.take(together, range(one), axis=place)
        else:
            return False
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
