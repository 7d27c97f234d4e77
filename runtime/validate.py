"""Checks what comes in against the signature, before ONNX Runtime sees it.

A server calls this once a request, so whatever can be known beforehand is worked out when the
`Checker` is made; a good request costs a few microseconds, and only a bad one pays for its message.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from seqport.runtime.artifact import SequenceInfo, TensorInfo
from seqport.runtime.convert import as_array, numpy_dtype
from seqport.runtime.errors import (
    EmptyBatchError,
    InputDtypeError,
    InputNameError,
    InputRankError,
    InputSizeError,
    InputValueError,
    LengthsError,
)

if TYPE_CHECKING:
    from seqport.runtime.not_a_number import NanRule

# Up to here Python's min and max over a list are faster than two NumPy reductions (1 µs each).
_FEW_ROWS = 32
# So many shapes of requests are remembered as right; an application that has more checks each anew.
_REMEMBERED = 256
_UNSIGNED = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}  # by bytes


@dataclass(frozen=True)
class InputRule:
    """What one input must be: None where the file does not say."""

    name: str
    dtype: np.dtype | None
    axes: tuple[str | int, ...] | None
    required: bool = True

    @classmethod
    def of(cls, info: TensorInfo) -> InputRule:
        """The rule of a described input."""
        return cls(info.name, numpy_dtype(info.dtype), info.axes)


class Checker:
    """Callable: a dict of values in, a dict of arrays that fit the rules out.

    Args:
        rules: one an input.
        sequences: which inputs hold lengths, and of which axes.
        refuse_empty: a dynamic axis of size 0 is an error. Not so for a plain ONNX file, where an
            empty axis may be meant (a cache that is still empty).
        limits: axis → the smallest and the largest size that the model takes, None where there is no largest.
        zeros_and_ones: inputs whose every value must be 0 or 1.
        tables: input → the smallest and the largest id that it may hold.
        not_negative: inputs whose whole numbers must be 0 or more.

    Attributes:
        nan: what becomes of NaN in the inputs.
    """

    def __init__(
        self,
        rules: Sequence[InputRule],
        sequences: Iterable[SequenceInfo] = (),
        *,
        refuse_empty: bool = True,
        limits: Mapping[str, tuple[int, int | None]] | None = None,
        zeros_and_ones: Iterable[str] = (),
        tables: Mapping[str, tuple[int, int]] | None = None,
        not_negative: Iterable[str] = (),
    ) -> None:
        self._names = {rule.name for rule in rules}
        self._required = {rule.name for rule in rules if rule.required}
        self._plan = tuple((rule.name, rule.dtype, rule.axes) for rule in rules)
        self._right: set[tuple[tuple[int, ...], ...]] = set()  # shapes that went through, in the plan's order
        self._refuse_empty = refuse_empty
        self._limits = tuple((axis, *ends) for axis, ends in (limits or {}).items())
        self._zeros_and_ones = tuple(zeros_and_ones)
        self._tables = tuple((name, *ends) for name, ends in (tables or {}).items())
        self._not_negative = tuple(name for name in not_negative if name not in (tables or {}))
        self.nan: NanRule | None = None
        sequences = tuple(sequences)
        self._batch_axes = {sequence.batch_axis for sequence in sequences}
        # One padded input gives the size that lengths may reach: the axis' name makes all agree.
        self._lengths = tuple(
            (sequence.lengths, *next(iter(sequence.inputs.items())))
            for sequence in sequences
            if sequence.lengths in self._names and sequence.inputs
        )

    def __call__(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Check one request.

        Returns:
            The same values; plain Python lists and scalars as arrays.

        Raises:
            InputError: the subclass names the cause (see `seqport.runtime.errors`).
        """
        feed = self._known(inputs)
        if feed is None:
            feed = self._checked(inputs)
        for lengths, padded, axis in self._lengths:
            _check_lengths(lengths, feed[lengths], padded, feed[padded].shape[axis])
        return self.values(feed)

    def values(self, feed: Any, *, listed: bool = False) -> Any:
        """Check what does depend on the values, lengths apart, and give them back; a list has no padding.

        A chunk need not bring every input.
        """
        for name in self._zeros_and_ones:
            if name in feed:
                _check_zeros_and_ones(name, feed[name])
        for name, smallest, largest in self._tables:
            if name in feed:
                _check_ids(name, feed[name], smallest, largest)
        for name in self._not_negative:
            if name in feed:
                _check_not_negative(name, feed[name])
        if self.nan is not None and self.nan.checks:
            self.nan.check(feed, listed=listed)
        return feed

    def _known(self, inputs: Mapping[str, Any]) -> dict[str, Any] | None:
        """The same arrays, where others of their names, types and shapes went through before."""
        if type(inputs) is not dict or len(inputs) != len(self._plan):
            return None
        feed: dict[str, Any] = {}
        shapes = []
        for name, dtype, _ in self._plan:
            value = inputs.get(name)
            if type(value) is not np.ndarray or value.dtype is not dtype:
                return None
            feed[name] = value
            shapes.append(value.shape)
        return feed if tuple(shapes) in self._right else None

    def _checked(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Whatever does not depend on the values of arrays."""
        try:
            exact = inputs.keys() == self._names
        except AttributeError:
            raise InputNameError(
                f"the inputs came as {type(inputs).__name__}: give a dict of {_quoted(self._names)} to arrays"
            ) from None
        if not exact:
            self._check_names(inputs)
        feed: dict[str, Any] = {}
        sizes: dict[str, int] = {}
        for name, dtype, axes in self._plan:
            if name not in inputs:
                continue
            value = inputs[name]
            if type(value) is not np.ndarray and (dtype is not None or axes is not None):
                value = as_array(name, value, dtype)
            feed[name] = value
            if dtype is not None and value.dtype != dtype:
                _refuse_dtype(name, value.dtype, dtype)
            if axes is None:
                continue
            shape = value.shape
            if len(shape) != len(axes):
                self._refuse_rank(name, shape, axes)
            for axis, size in zip(axes, shape, strict=True):
                wanted = axis if type(axis) is int else sizes.setdefault(axis, size)  # type: ignore[arg-type]
                if size != wanted:
                    self._refuse_size(name, axis, size, wanted, feed)
        if self._refuse_empty and 0 in sizes.values():
            self._refuse_empty_axis(feed, sizes)
        for axis, smallest, largest in self._limits:
            size = sizes.get(axis, smallest)
            if size < smallest or (largest is not None and size > largest):
                self._refuse_beyond(feed, axis, size, smallest, largest)
        arrays = len(feed) == len(self._plan) and all(type(value) is np.ndarray for value in feed.values())
        if arrays and len(self._right) < _REMEMBERED:
            self._right.add(tuple([value.shape for value in feed.values()]))
        return feed

    def _check_names(self, inputs: Mapping[str, Any]) -> None:
        missing = self._required - inputs.keys()
        unknown = inputs.keys() - self._names
        if not missing and not unknown:
            return
        said = [f"{_quoted(missing)} missing"] if missing else []
        said += [f"{_quoted(unknown)} unknown"] if unknown else []
        raise InputNameError(
            f"input {' and '.join(said)}: {_quoted(inputs) or 'nothing'} came, "
            f"expected {', '.join(repr(name) for name, _, _ in self._plan)}"
        )

    def _refuse_rank(self, name: str, shape: tuple[int, ...], axes: tuple[str | int, ...]) -> NoReturn:
        one_row = len(shape) == len(axes) - 1 and axes[0] in self._batch_axes
        remedy = "; a single row needs its batch axis, as in array[np.newaxis]" if one_row else ""
        raise InputRankError(
            f"input {name!r} has {len(shape)} axes, {_shape(shape)}, expected {len(axes)}, {_shape(axes)}{remedy}"
        )

    def _refuse_size(self, name: str, axis: str | int, size: int, wanted: int, feed: Mapping[str, Any]) -> NoReturn:
        axes = self._axes(name)
        came = f"input {name!r} has the shape {_shape(feed[name].shape)}, expected {_shape(axes)}"
        if isinstance(axis, int):
            raise InputSizeError(f"{came}: one axis is fixed to {wanted} in the file, and {size} came")
        first = next(other for other in feed if axis in (self._axes(other) or ()))
        where = "on another of its axes" if first == name else f"in input {first!r}"
        raise InputSizeError(f"{came}: axis {axis!r} is {size} here and {wanted} {where}, but one name means one size")

    def _refuse_empty_axis(self, feed: Mapping[str, Any], sizes: Mapping[str, int]) -> NoReturn:
        axis = next(axis for axis, size in sizes.items() if size == 0)
        name = next(name for name in feed if axis in (self._axes(name) or ()))
        raise EmptyBatchError(
            f"input {name!r} has the shape {_shape(feed[name].shape)}: axis {axis!r} is empty, "
            "so there is nothing to compute; expected at least 1, do not call with nothing"
        )

    def _refuse_beyond(
        self, feed: Mapping[str, Any], axis: str, size: int, smallest: int, largest: int | None
    ) -> NoReturn:
        name = next(name for name in feed if axis in (self._axes(name) or ()))
        takes = f"at least {smallest}" if largest is None else f"{smallest} to {largest}"
        remedy = "split or cut what is longer" if size > smallest else "pad what is shorter"
        raise InputSizeError(
            f"input {name!r} has the shape {_shape(feed[name].shape)}: axis {axis!r} is {size}, and the model takes "
            f"{takes} (its own layers end there): {remedy}"
        )

    def _axes(self, name: str) -> tuple[str | int, ...] | None:
        return next(axes for other, _, axes in self._plan if other == name)


def _check_lengths(name: str, lengths: np.ndarray, padded: str, limit: int) -> None:
    if lengths.size <= _FEW_ROWS and lengths.dtype.kind != "f":  # min and max of a list pass over NaN
        values = lengths.ravel().tolist()
        low, high = min(values), max(values)
    else:
        low, high = lengths.min(), lengths.max()
    if low >= 1 and high <= limit:
        return
    row = int(np.flatnonzero(~((lengths >= 1) & (lengths <= limit)))[0])
    value = lengths.ravel()[row].item()
    if value < 1:
        remedy = "leave out rows without steps"
    else:
        remedy = "a length counts the steps before the padding, and cannot exceed the padded axis"
    raise LengthsError(f"input {name!r} row {row} is {value}, expected 1 to {limit}, the steps of {padded!r}: {remedy}")


def _check_zeros_and_ones(name: str, values: np.ndarray) -> None:
    others = (values != 0) & (values != 1)
    if not others.any():
        return
    place = tuple(np.argwhere(others)[0].tolist())
    raise InputValueError(
        f"input {name!r} holds {values[place].item()!r} at {_shape(place)}, expected 0 or 1: the artifact takes it for "
        "a mask, which keeps a step or leaves it out"
    )


def _check_ids(name: str, ids: np.ndarray, smallest: int, largest: int) -> None:
    if ids.size <= _FEW_ROWS:
        values = ids.ravel().tolist()
        low, high = min(values, default=0), max(values, default=0)
    elif smallest == 0:
        low, high = 0, ids.view(_UNSIGNED[ids.dtype.itemsize]).max()  # a negative id is a large one
    else:
        low, high = ids.min(), ids.max()
    if low >= smallest and high <= largest:
        return
    place = tuple(np.argwhere((ids < smallest) | (ids > largest))[0].tolist())
    raise InputValueError(
        f"input {name!r} holds the id {ids[place].item()} at {_shape(place)}, expected {smallest} to {largest}, which "
        "is what the model knows: anything else needs an id of its own among these"
    )


def _check_not_negative(name: str, values: np.ndarray) -> None:
    if values.min(initial=0) >= 0:
        return
    place = tuple(np.argwhere(values < 0)[0].tolist())
    raise InputValueError(
        f"input {name!r} holds {values[place].item()} at {_shape(place)}, expected 0 or more: the file counts negative "
        "numbers from the end, which the model does not"
    )


def _refuse_dtype(name: str, came: np.dtype, wanted: np.dtype) -> NoReturn:
    raise InputDtypeError(
        f"input {name!r} came as {came}, expected {wanted}: arrays are not cast silently, "
        f"use .astype(np.{wanted}) where that is meant"
    )


def _shape(axes: Iterable[str | int] | None) -> str:
    return f"[{', '.join(map(str, axes or ()))}]"


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(repr(name) for name in sorted(names, key=str))
