"""Reads items that are one row each: checks them, names the wrong one, and gathers them by column."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from seqport.runtime.convert import numpy_dtype
from seqport.runtime.errors import InputError, InputNameError, InputSizeError, LengthsError
from seqport.runtime.packing import Slot, axis_name
from seqport.runtime.validate import Checker, InputRule


@dataclass
class Rows:
    """Checked rows, without their batch axis, by column.

    Attributes:
        indices: which items they are.
        columns: an array a row, for each input.
        lengths: each row's steps, for each sequence axis.
        alike: the sizes that rows of one batch must share; empty where there are none.
    """

    indices: list[int] = field(default_factory=list)
    columns: list[list[np.ndarray]] = field(default_factory=list)
    lengths: list[list[int]] = field(default_factory=list)
    alike: list[tuple[int, ...]] = field(default_factory=list)

    def drop_last(self) -> None:
        """Forget the row that was added last."""
        for column in (self.indices, *self.columns, *self.lengths, self.alike):
            if column:
                column.pop()


class RowReader:
    """How the items of one model are read, worked out once.

    Args:
        inputs: the model's inputs beside the lengths.
        lengths: the names of the inputs that hold lengths, which are counted here and never given.
        states: the names of the inputs that are zero where an item leaves them out.

    Attributes:
        axes: the names of the sequence axes.
        unpadded: the names of the axes that rows of one batch must share the size of.
    """

    def __init__(self, inputs: Mapping[str, Slot], lengths: Sequence[str], states: set[str]) -> None:
        self._inputs = inputs
        self._lengths = lengths
        self._states = states & inputs.keys()
        self._zeros: dict[str, np.ndarray] = {}
        self._check = Checker(
            [InputRule(name, numpy_dtype(slot.info.dtype), slot.row_axes) for name, slot in inputs.items()]
        )
        counted = {axis_name(slot.sequence): (name, slot) for name, slot in inputs.items() if slot.sequence}
        self.axes = list(counted)
        self._counted = [(name, slot.row_steps) for name, slot in counted.values()]
        self._limited = [(name, slot) for name, slot in inputs.items() if slot.limit is not None]
        shared = [(name, place, slot.row_axes[place]) for name, slot in inputs.items() for place in slot.unpadded]
        self._shared = [(name, place) for name, place, _ in shared]
        self.unpadded = [str(axis) for _, _, axis in shared]
        self._simple = _simple(inputs)

    def empty(self) -> Rows:
        """No rows yet."""
        return Rows(columns=[[] for _ in self._inputs], lengths=[[] for _ in self.axes])

    def add(self, rows: Rows, index: int, item: Any) -> None:
        """Append one item.

        Raises:
            InputError: it does not fit; the message begins with its index.
        """
        if self._simple and type(item) is np.ndarray:
            dtype, features = self._simple
            shape = item.shape
            if item.dtype == dtype and shape[1:] == features and shape and shape[0]:
                rows.indices.append(index)
                rows.columns[0].append(item)
                rows.lengths[0].append(shape[0])
                return
        try:
            arrays = self._checked(item)
        except InputError as error:
            raise of_item(index, error) from error
        rows.indices.append(index)
        for name, column in zip(self._inputs, rows.columns, strict=True):
            column.append(arrays[name])
        for (name, place), lengths in zip(self._counted, rows.lengths, strict=True):
            lengths.append(arrays[name].shape[place])
        if self._shared:
            rows.alike.append(tuple(arrays[name].shape[place] for name, place in self._shared))

    def add_all(self, rows: Rows, index: int, items: Sequence[Any]) -> bool:
        """Append many items at once, where that is simple: bare arrays that all fit. Else nothing is appended."""
        if not self._simple or set(map(type, items)) != {np.ndarray}:
            return False
        dtype, features = self._simple
        shapes = [item.shape for item in items]
        lengths = [shape[0] if shape else 0 for shape in shapes]
        if {item.dtype for item in items} != {dtype} or {shape[1:] for shape in shapes} != {features} or 0 in lengths:
            return False
        rows.indices += range(index, index + len(items))
        rows.columns[0] += items
        rows.lengths[0] += lengths
        return True

    def _checked(self, item: Any) -> dict[str, np.ndarray]:
        given = dict(item) if isinstance(item, Mapping) else {self._only_input(): item}
        for name in self._lengths:
            if name in given:
                raise InputNameError(f"input {name!r} came: leave it out, predict takes lengths from the arrays")
        for name in self._states - given.keys():
            given[name] = self._zero(name)
        for name, value in given.items():
            if name in self._inputs and _steps(self._inputs[name], value) == 0:
                raise LengthsError(f"sequence {name!r} has 0 steps, expected at least 1: leave it out")
        arrays = self._check(given)
        for name, slot in self._limited:
            steps = arrays[name].shape[slot.row_steps]
            if steps > slot.limit:  # type: ignore[operator]
                raise InputSizeError(
                    f"sequence {name!r} has {steps} steps, expected at most {slot.limit}: the file fixes that axis"
                )
        return arrays

    def _only_input(self) -> str:
        names = [name for name in self._inputs if name not in self._states]
        if len(names) != 1:
            raise InputNameError(f"a bare value came, and the model has the inputs {names}: give a dict of them")
        return names[0]

    def _zero(self, name: str) -> np.ndarray:
        if name not in self._zeros:
            self._zeros[name] = self._inputs[name].zero_row()
        return self._zeros[name]


def of_item(index: int, error: InputError) -> InputError:
    """The same error, which says what item it is about."""
    return type(error)(f"item {index}: {error}")


def _simple(inputs: Mapping[str, Slot]) -> tuple[np.dtype, tuple[int, ...]] | None:
    """The type and the features of the one sequence that a model takes; None where its items are not that simple.

    Most models are, and the full check would be most of the work of a row.
    """
    slots = list(inputs.values())
    if len(slots) != 1 or not slots[0].padded or slots[0].row_steps != 0 or slots[0].limit is not None:
        return None
    dtype, features = numpy_dtype(slots[0].info.dtype), slots[0].row_axes[1:]
    sizes = tuple(axis for axis in features if isinstance(axis, int))
    return (dtype, sizes) if dtype is not None and len(sizes) == len(features) else None


def _steps(slot: Slot, value: Any) -> int | None:
    """The steps of a value that is not checked yet; None where it has none to count."""
    if slot.sequence is None:
        return None
    if isinstance(value, list | tuple):
        return len(value) if slot.row_steps == 0 else None
    shape = getattr(value, "shape", ())
    return shape[slot.row_steps] if slot.row_steps < len(shape) else None
