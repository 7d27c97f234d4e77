"""Lays single rows into one padded batch, and cuts them out again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from seqport.runtime.artifact import Description, SequenceInfo, TensorInfo
from seqport.runtime.errors import ArtifactError, InputNameError


def batch_axis_of(description: Description) -> str:
    """The name of the dynamic batch axis; without sequences, the first axis of the first input.

    Raises:
        ArtifactError: the file fixes its batch size.
    """
    if description.sequences:
        axis = description.sequences[0].batch_axis
    else:
        axis = next((info.axes[0] for info in description.inputs[:1] if info.axes), 0)
    if isinstance(axis, int):
        raise ArtifactError(
            f"rows cannot be batched, because the file fixes its batch axis to {axis or 'none'}: "
            "use run, or export with a dynamic batch axis"
        )
    return axis


def axis_name(sequence: SequenceInfo) -> str:
    """What to call a sequence axis, which has no name of its own where it is fixed."""
    return sequence.axis if isinstance(sequence.axis, str) else f"steps of {next(iter(sequence.inputs))}"


@dataclass(frozen=True)
class Slot:
    """One tensor, and where it keeps its batch and its sequence.

    Attributes:
        info: the tensor of a whole batch.
        batch: the position of its batch axis.
        sequence: the sequence along it, if there is one.
        steps: the position of that sequence's axis in the batch.
    """

    info: TensorInfo
    batch: int
    sequence: SequenceInfo | None = None
    steps: int = -1

    @classmethod
    def of(cls, info: TensorInfo, batch_axis: str, sequences: Mapping[str, tuple[SequenceInfo, int]]) -> Slot:
        """The slot of a tensor.

        Raises:
            ArtifactError: it has no such batch axis.
        """
        if batch_axis not in info.axes:
            raise ArtifactError(
                f"rows cannot be batched, because {info.name!r} [{', '.join(map(str, info.axes))}] lacks the "
                f"batch axis {batch_axis!r}: use run, or export with that axis on every tensor"
            )
        sequence, steps = sequences.get(info.name, (None, -1))
        return cls(info, info.axes.index(batch_axis), sequence, steps)

    @property
    def row_steps(self) -> int:
        """The position of the sequence axis in a single row, which has no batch axis."""
        return self.steps - (self.batch < self.steps)

    @property
    def row_axes(self) -> tuple[str | int, ...]:
        """The axes of a single row. A fixed sequence axis is open here: shorter rows are padded."""
        axes: list[str | int] = list(self.info.axes)
        if self.sequence:
            axes[self.steps] = axis_name(self.sequence)
        del axes[self.batch]
        return tuple(axes)

    @property
    def limit(self) -> int | None:
        """The steps that a fixed sequence axis has; None where it is dynamic."""
        size = self.info.axes[self.steps] if self.sequence else None
        return size if isinstance(size, int) else None

    def zero_row(self) -> np.ndarray:
        """Zeros for a row that leaves its initial state out.

        Raises:
            InputNameError: the shape is dynamic, so it must be given.
        """
        sizes = [axis for axis in self.row_axes if isinstance(axis, int)]
        if len(sizes) != len(self.row_axes):
            raise InputNameError(f"input {self.info.name!r} missing: its shape is dynamic, so no zeros stand in for it")
        return np.zeros(sizes, self.info.dtype)

    def unpadded_sizes(self, row: np.ndarray) -> tuple[int, ...]:
        """The sizes that rows of one batch must share."""
        padded = self.sequence is not None and self.sequence.padded
        return tuple(size for axis, size in enumerate(row.shape) if not (padded and axis == self.row_steps))

    def pack(self, rows: Sequence[np.ndarray]) -> np.ndarray:
        """The batch of some rows, a sequence padded to the longest of them, or to its fixed size."""
        if self.sequence is None:
            return np.stack(rows, axis=self.batch)
        shape = list(rows[0].shape)
        shape[self.row_steps] = self.limit or max(row.shape[self.row_steps] for row in rows)
        shape.insert(self.batch, len(rows))
        batch = np.full(shape, self.sequence.padding_value, rows[0].dtype)
        for place, row in enumerate(rows):
            batch[self._part(place, row.shape[self.row_steps])] = row
        return batch

    def cut(self, batch: np.ndarray, place: int, lengths: Mapping[str, int]) -> np.ndarray:
        """One row of a batch, trimmed. A copy: a view would keep the whole batch in memory."""
        steps = lengths[axis_name(self.sequence)] if self.sequence and self.sequence.padded else None
        return batch[self._part(place, steps)].copy()

    def _part(self, place: int, steps: int | None) -> tuple[Any, ...]:
        index: list[Any] = [slice(None)] * len(self.info.axes)
        if self.sequence:
            index[self.steps] = slice(steps)
        index[self.batch] = place
        return tuple(index)
