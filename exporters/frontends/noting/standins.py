"""Python's own functions that give sizes and steps, as functions whose numbers note what they are compared with."""

from __future__ import annotations

import builtins
from collections.abc import Iterable, Iterator
from typing import Any

from seqport.exporters.frontends.noting import noted, recording
from seqport.exporters.frontends.noting.owners import is_tensor


class StandIn(type):
    """Calls like the type that it stands for, and passes for it in isinstance and issubclass."""

    stands_for: type

    def __call__(cls, *args: Any) -> Any:  # noqa: D102
        return cls.stands_for(*args) if (found := cls.called(*args)) is None else found

    def called(cls, *args: Any) -> Any:
        """What a call gives; None where it is one of the type's own."""
        raise NotImplementedError

    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, cls.stands_for)

    def __subclasscheck__(cls, subclass: type) -> bool:
        return issubclass(subclass, cls.stands_for)


class Steps:
    """A range whose numbers note.

    Args:
        steps: the range.
    """

    def __init__(self, steps: range) -> None:
        self._steps = steps

    def __iter__(self) -> Iterator[Any]:
        return map(noted.size, self._steps)

    def __reversed__(self) -> Iterator[Any]:
        return map(noted.size, reversed(self._steps))

    def __len__(self) -> int:
        return builtins.len(self._steps)

    def __getitem__(self, index: Any) -> Any:
        found = self._steps[index]
        return Steps(found) if isinstance(found, builtins.range) else noted.size(found)

    def __contains__(self, number: Any) -> bool:
        noted.note("ge", number, self._steps.start)
        noted.note("lt", number, self._steps.stop)
        return noted.plain_of(number) in self._steps

    def __eq__(self, other: object) -> bool:
        return self._steps == (other._steps if isinstance(other, Steps) else other)

    def __hash__(self) -> int:
        return hash(self._steps)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._steps, name)


class _Range(metaclass=StandIn):
    """Stands for `range`."""

    stands_for = builtins.range

    @classmethod
    def called(cls, *args: Any) -> Any:
        recording.note_numbers(args)
        return Steps(builtins.range(*args))


class _Int(metaclass=StandIn):
    """Stands for `int`."""

    stands_for = builtins.int

    @classmethod
    def called(cls, value: Any = 0, *args: Any) -> Any:
        if isinstance(value, noted.NotedInt):
            return value
        if isinstance(value, noted.NotedFloat):
            return noted.computed("trunc", builtins.int(noted.plain_of(value)), value)
        number = builtins.int(value, *args)
        return noted.size(number) if is_tensor(value) else number


class _Type(metaclass=StandIn):
    """Stands for `type`: an int that notes is what the code calls int."""

    stands_for = builtins.type

    @classmethod
    def called(cls, *args: Any) -> Any:
        found = builtins.type(*args)
        return _Int if issubclass(found, noted.NotedInt) or found is builtins.int else _float_or(found)


class _Float(metaclass=StandIn):
    """Stands for `float`."""

    stands_for = builtins.float

    @classmethod
    def called(cls, value: Any = 0.0) -> Any:
        if isinstance(value, noted.NotedFloat):
            return value
        number = builtins.float(noted.plain_of(value))
        return noted.computed("float", number, value) if isinstance(value, noted.NotedInt) else number


def _float_or(found: type) -> Any:
    return _Float if issubclass(found, noted.NotedFloat) or found is builtins.float else found


def _len(value: Any) -> Any:
    """Stands for `len`."""
    return noted.size(builtins.len(value))


def _enumerate(items: Iterable[Any], start: int = 0) -> Iterator[tuple[Any, Any]]:
    """Stands for `enumerate`."""
    return ((noted.size(at), item) for at, item in builtins.enumerate(items, start))


STAND_INS: dict[str, Any] = {
    "range": _Range,
    "int": _Int,
    "float": _Float,
    "type": _Type,
    "len": _len,
    "enumerate": _enumerate,
}
# Those that PyTorch takes for types of elements: `dtype=int`.
TYPES = frozenset({"int", "float", "type"})
