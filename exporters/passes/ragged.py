"""Which rows of different lengths may share a batch: proven, not assumed.

Needs: a measured artifact and its sequences. Guarantees: a sequence says `padded` only where rows run alone, without
padding, gave what they gave among longer ones, each output trimmed as the sequence says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from seqport.exporters.passes.judgement import gaps
from seqport.exporters.passes.probe import TOLERANCE, Measured, Run
from seqport.exporters.signature import Input
from seqport.runtime.artifact import SequenceInfo, TensorInfo

Sequences = tuple[SequenceInfo, ...]


def proven(sequences: Sequences, measured: Measured, inputs: Sequence[Input]) -> Sequences:
    """The sequences, each with its `padded` set by measurement; several are proven together, as they are batched."""
    padded = all(_rows_agree(sequences, run, measured, inputs) for run in measured.runs)
    return tuple(replace(sequence, padded=padded) for sequence in sequences)


@dataclass(frozen=True)
class _Batch:
    """A padded batch, and where each tensor keeps its rows and steps."""

    feed: dict[str, np.ndarray]
    steps: dict[int, np.ndarray]  # the position of a sequence → steps of each row
    batch_axis: str
    inputs: Sequence[Input]
    sequences: Sequences

    def alone(self, row: int) -> dict[str, np.ndarray]:
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

    def trimmed(self, info: TensorInfo, output: np.ndarray, row: int) -> np.ndarray:
        """One row of an output of the whole batch, as `predict` would cut it."""
        array = np.take(output, [row], axis=info.axes.index(self.batch_axis))
        for place, sequence in enumerate(self.sequences):
            axis = sequence.outputs.get(info.name)
            if axis is not None:
                array = np.take(array, range(self.steps[place][row]), axis=axis)
        return array


def _rows_agree(sequences: Sequences, run: Run, measured: Measured, inputs: Sequence[Input]) -> bool:
    if not sequences or not isinstance(axis := sequences[0].batch_axis, str):
        return False
    if any(axis not in tensor.axes for tensor in (*inputs, *measured.outputs)):
        return False
    batch = _batch(sequences, run, inputs, axis)
    names = [info.name for info in measured.outputs]
    try:
        together = measured.session.run(names, batch.feed)
        for row in range(len(batch.steps[0])):
            alone = measured.session.run(names, batch.alone(row))
            for info, whole, single in zip(measured.outputs, together, alone, strict=True):
                gap = gaps(batch.trimmed(info, np.asarray(whole), row), np.asarray(single))
                if gap is None or gap.max(initial=0) > TOLERANCE:
                    return False
    except Exception:  # a row alone is too short for the model, or an output too short to be trimmed: not proven
        return False
    return True


def _batch(sequences: Sequences, run: Run, inputs: Sequence[Input], batch_axis: str) -> _Batch:
    """The probe's own inputs with their padding made what `predict` pads with."""
    feed = {name: array.copy() for name, array in run.inputs.items()}
    by_name = {item.name: item for item in inputs}
    steps: dict[int, np.ndarray] = {}
    for place, sequence in enumerate(sequences):
        first, axis = next(iter(sequence.inputs.items()))
        size, rows = feed[first].shape[axis], run.sizes[batch_axis]
        if sequence.lengths is None:
            steps[place] = np.linspace(size, max(1, size // 2), rows).astype(int)
        else:
            steps[place] = feed[sequence.lengths].reshape(-1).astype(int)
        for name, time in sequence.inputs.items():
            item = by_name[name]
            _pad(feed[name], item.axes.index(batch_axis), time, steps[place], sequence)
    return _Batch(feed, steps, batch_axis, inputs, sequences)


def _pad(array: np.ndarray, batch: int, time: int, steps: np.ndarray, sequence: SequenceInfo) -> None:
    """Write padding behind each row's steps; where the model tells padding by its value, keep that out of the steps."""
    by_row = np.moveaxis(array, (batch, time), (0, 1))  # a view
    if sequence.lengths is None and array.dtype.kind in "iub":
        by_row[by_row == sequence.padding_value] = 1
    for row, count in enumerate(steps.tolist()):
        by_row[row, count:] = sequence.padding_value
