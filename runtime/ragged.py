"""Answers sequences of any lengths: checks them, groups them into batches, and keeps their order."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from seqport.runtime.artifact import Description
from seqport.runtime.convert import numpy_dtype
from seqport.runtime.errors import InputError, InputNameError, InputSizeError, LengthsError
from seqport.runtime.packing import Slot, axis_name, batch_axis_of
from seqport.runtime.validate import Checker, InputRule

Run = Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]


@dataclass(frozen=True)
class _Row:
    arrays: dict[str, np.ndarray]  # without the batch axis
    lengths: dict[str, int]  # sequence axis: steps


class RaggedBatches:
    """How the rows of one model share batches, worked out once.

    A sequence with lengths, or one that the model masks by its data, is padded. Along any other
    dynamic axis nothing tells padding from data, so only rows of one size share a batch.

    Raises:
        ArtifactError: a tensor has no batch axis, so rows cannot be put together.
    """

    def __init__(self, description: Description) -> None:
        sequences = description.sequences
        batch_axis = batch_axis_of(description)
        axis_of = {sequence.lengths: axis_name(sequence) for sequence in sequences if sequence.lengths}
        padded = {name: (sequence, axis) for sequence in sequences for name, axis in sequence.inputs.items()}
        trimmed = {name: (sequence, axis) for sequence in sequences for name, axis in sequence.outputs.items()}
        self._lengths = {info: axis_of[info.name] for info in description.inputs if info.name in axis_of}
        self._inputs = {
            info.name: Slot.of(info, batch_axis, padded) for info in description.inputs if info not in self._lengths
        }
        self._outputs = {info.name: Slot.of(info, batch_axis, trimmed) for info in description.outputs}
        self._states = {state.input for state in description.states}
        self._check = Checker(
            [InputRule(name, numpy_dtype(slot.info.dtype), slot.row_axes) for name, slot in self._inputs.items()]
        )

    def predict(self, run: Run, items: Iterable[Any], batch_size: int) -> list[dict[str, np.ndarray]]:
        """See `Session.predict`."""
        if batch_size < 1:
            raise InputSizeError(f"batch_size is {batch_size}, expected at least 1 row a batch")
        rows = [self._row(index, item) for index, item in enumerate(items)]
        answers: list[dict[str, np.ndarray]] = [{}] * len(rows)
        for indices in self._batches(rows, batch_size):
            outputs = run(self._pack([rows[index] for index in indices]))
            for place, index in enumerate(indices):
                lengths = rows[index].lengths
                answers[index] = {name: slot.cut(outputs[name], place, lengths) for name, slot in self._outputs.items()}
        return answers

    def _row(self, index: int, item: Any) -> _Row:
        """One checked item; what is wrong with it is said with its index."""
        try:
            given = dict(item) if isinstance(item, Mapping) else {self._only_input(): item}
            for info in self._lengths:
                if info.name in given:
                    raise InputNameError(
                        f"input {info.name!r} came: leave it out, predict takes lengths from the arrays"
                    )
            for name in self._states & self._inputs.keys() - given.keys():
                given[name] = self._inputs[name].zero_row()
            for name, value in given.items():
                if name in self._inputs and _steps(self._inputs[name], value) == 0:
                    raise LengthsError(f"sequence {name!r} has 0 steps, expected at least 1: leave it out")
            arrays = self._check(given)
            return _Row(arrays, self._lengths_of(arrays))
        except InputError as error:
            raise type(error)(f"item {index}: {error}") from error

    def _only_input(self) -> str:
        names = [name for name in self._inputs if name not in self._states]
        if len(names) != 1:
            raise InputNameError(f"a bare value came, and the model has the inputs {names}: give a dict of them")
        return names[0]

    def _lengths_of(self, arrays: Mapping[str, np.ndarray]) -> dict[str, int]:
        lengths: dict[str, int] = {}
        for name, slot in self._inputs.items():
            if slot.sequence is None:
                continue
            steps = arrays[name].shape[slot.row_steps]
            if slot.limit is not None and steps > slot.limit:
                raise InputSizeError(
                    f"sequence {name!r} has {steps} steps, expected at most {slot.limit}: the file fixes that axis"
                )
            lengths[axis_name(slot.sequence)] = steps
        return lengths

    def _batches(self, rows: list[_Row], batch_size: int) -> Iterator[list[int]]:
        """The rows of each batch: alike in what cannot be padded, near in length."""
        alike: dict[tuple[tuple[int, ...], ...], list[int]] = defaultdict(list)
        for index, row in enumerate(rows):
            sizes = tuple(slot.unpadded_sizes(row.arrays[name]) for name, slot in self._inputs.items())
            alike[sizes].append(index)
        for indices in alike.values():
            indices.sort(key=lambda index: tuple(rows[index].lengths.values()))
            for start in range(0, len(indices), batch_size):
                yield indices[start : start + batch_size]

    def _pack(self, rows: list[_Row]) -> dict[str, np.ndarray]:
        feed = {name: slot.pack([row.arrays[name] for row in rows]) for name, slot in self._inputs.items()}
        for info, axis in self._lengths.items():
            # [batch], or [batch, 1] where the model takes it so
            steps = np.array([row.lengths[axis] for row in rows], info.dtype)
            feed[info.name] = steps.reshape(-1, *[1] * (len(info.axes) - 1))
        return feed


def _steps(slot: Slot, value: Any) -> int | None:
    """The steps of a value that is not checked yet; None where it has none to count."""
    if slot.sequence is None:
        return None
    if isinstance(value, list | tuple):
        return len(value) if slot.row_steps == 0 else None
    shape = getattr(value, "shape", ())
    return shape[slot.row_steps] if slot.row_steps < len(shape) else None
