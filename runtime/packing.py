"""Lays single rows into one padded batch, and cuts them out again."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from seqport.runtime.artifact import Description, SequenceInfo, TensorInfo
from seqport.runtime.convert import numpy_dtype
from seqport.runtime.copying import copies
from seqport.runtime.errors import ArtifactError, InputNameError


def batch_axis_of(description: Description) -> str:
    """The name of the dynamic batch axis.

    Raises:
        ArtifactError: the file fixes its batch size, or does not say which axis the rows are.
    """
    if description.batch_axis is not None:
        return description.batch_axis
    axis = description.sequences[0].batch_axis if description.sequences else None
    if isinstance(axis, str):  # a file of before
        return axis
    if isinstance(axis, int):
        raise ArtifactError(
            f"rows cannot be batched, because the file fixes its batch axis to {axis}: "
            "use run, or export with a dynamic batch axis"
        )
    named = ", ".join(f"{info.name!r} [{', '.join(map(str, info.axes))}]" for info in description.inputs)
    raise ArtifactError(
        f"rows cannot be batched, because no axis of {named} was proven to hold rows that do not see each other: use "
        "run, or export again with a dynamic batch axis that every input and output has"
    )


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

    @property
    def padded(self) -> bool:
        """Whether rows of different lengths may share a batch of it."""
        return self.sequence is not None and self.sequence.padded

    @property
    def unpadded(self) -> tuple[int, ...]:
        """The positions of the dynamic axes that rows of one batch must share the size of."""
        return tuple(
            place
            for place, axis in enumerate(self.row_axes)
            if isinstance(axis, str) and not (self.padded and place == self.row_steps)
        )

    def pack(self, rows: Sequence[np.ndarray], longest: int) -> np.ndarray:
        """The batch of some rows, a sequence padded to `longest` steps, or to its fixed size."""
        if self.sequence is None:
            return np.stack(rows, axis=self.batch)
        shape = list(rows[0].shape)
        shape[self.row_steps] = self.limit or longest
        shape.insert(self.batch, len(rows))
        padding, dtype = self.sequence.padding_value, rows[0].dtype
        batch = np.full(shape, padding, dtype) if padding else np.zeros(shape, dtype)
        # A view with the batch first: assigning to its rows is cheaper than indexing the batch.
        places = self._rows_first(batch)
        if self.row_steps == 0:
            for place, row in zip(places, rows, strict=True):
                place[: len(row)] = row
        else:
            for place, row in zip(places, rows, strict=True):
                place[self._trimmed(row.shape[self.row_steps])] = row
        return batch

    def cut(self, batch: np.ndarray, lengths: Sequence[int], threads: int = 1) -> list[np.ndarray]:
        """The rows of a batch, trimmed. Copies, by so many threads: a view would keep the whole batch in memory."""
        rows = self._rows_first(batch)
        if not self.padded:
            return copies(list(rows), threads)
        if self.row_steps == 0:
            return copies([row[:steps] for row, steps in zip(rows, lengths, strict=True)], threads)
        return copies([row[self._trimmed(steps)] for row, steps in zip(rows, lengths, strict=True)], threads)

    def _rows_first(self, batch: np.ndarray) -> np.ndarray:
        """A view; np.moveaxis would take longer than the rows of a small batch."""
        if self.batch == 0:
            return batch
        return batch.transpose(self.batch, *(axis for axis in range(batch.ndim) if axis != self.batch))

    def _trimmed(self, steps: int) -> tuple[slice, ...]:
        return (*[slice(None)] * self.row_steps, slice(steps))


class Footprint:
    """The bytes of one row of a padded batch, in and out, as the signature tells them.

    An axis of the outputs that no input has is taken for the longest sequence.
    """

    def __init__(self, slots: Iterable[Slot]) -> None:
        self._terms: dict[tuple[str, ...], int] = {}  # dynamic axes → bytes, to be multiplied by their sizes
        for slot in slots:
            dtype = numpy_dtype(slot.info.dtype)
            axes = [axis for place, axis in enumerate(slot.info.axes) if place != slot.batch]
            size = (dtype.itemsize if dtype else 8) * math.prod(axis for axis in axes if isinstance(axis, int))
            names = tuple(axis for axis in axes if isinstance(axis, str))
            self._terms[names] = self._terms.get(names, 0) + size

    def linear(self, axis: str) -> tuple[int, int] | None:
        """Bytes that do not depend on an axis, and bytes for each of its steps; None where others count too."""
        if not self._terms.keys() <= {(), (axis,)}:
            return None
        return self._terms.get((), 0), self._terms.get((axis,), 0)

    def __call__(self, sizes: Mapping[str, Any], longest: Any) -> Any:
        """Bytes, for axes of these sizes; arrays of sizes give an array."""
        total: Any = 0
        for names, size in self._terms.items():
            for name in names:
                size = size * sizes.get(name, longest)
            total = total + size
        return total
