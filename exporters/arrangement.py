"""How flat inputs reach a model that takes some of them by name, or in tuples, dicts and dataclasses."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from seqport.exporters.errors import InputsError
from seqport.exporters.signature import Input

Nested = Any  # an Input, or a tuple, list, dict or dataclass of Nested


class Arrangement:
    """The structure of a model's arguments, with the position of a flat input at each leaf.

    Args:
        nested: one entry an argument of the model: an Input, or a tuple, list, dict or dataclass of them, however deep.
        by_name: whether the model takes its arguments by keyword; each is an Input then, and its name the keyword.
        inputs: the same Inputs in another order, that of the values; as they stand in `nested` where left out.

    Raises:
        InputsError: an entry is no Input, nor made of them; or in a dict or dataclass a key's Input has another key's
            name.
    """

    def __init__(
        self, nested: Iterable[Nested], *, by_name: bool = False, inputs: Sequence[Input] | None = None
    ) -> None:
        self.inputs: list[Input] = []
        self._arguments = [self._placed(item) for item in nested]
        self._by_name = by_name
        if inputs is not None:
            found = [inputs.index(item) for item in self.inputs]
            self._arguments = [self._filled(item, found) for item in self._arguments]
            self.inputs = list(inputs)

    @property
    def names(self) -> list[str | None]:
        """Of each argument that is one input its name; None for a tuple, dict or dataclass."""
        return [self.inputs[item].name if isinstance(item, int) else None for item in self._arguments]

    @property
    def inner(self) -> set[str]:
        """The names of the inputs that are part of an argument."""
        return {item.name for item in self.inputs} - set(self.names)

    @property
    def is_flat(self) -> bool:
        """Whether every argument is one input."""
        return all(isinstance(item, int) for item in self._arguments)

    def arguments(self, values: Sequence[Any]) -> tuple[Any, ...]:
        """The model's arguments, made of one value an input."""
        return tuple(self._filled(item, values) for item in self._arguments)

    def call(self, model: Callable[..., Any], values: Sequence[Any]) -> Any:
        """The model's answer, of one value an input."""
        arguments = self.arguments(values)
        if self._by_name:
            return model(**dict(zip((item.name for item in self.inputs), arguments, strict=True)))
        return model(*arguments)

    def _placed(self, item: Nested) -> Any:
        if isinstance(item, Input):
            self.inputs.append(item)
            return len(self.inputs) - 1
        _require_own_keys(item)
        if isinstance(item, Mapping):
            return {key: self._placed(value) for key, value in item.items()}
        if isinstance(item, (tuple, list)):
            return _remade(item, [self._placed(value) for value in item])
        if _is_dataclass(item):
            return dataclasses.replace(item, **{k: self._placed(v) for k, v in _fields(item)})
        raise InputsError(
            f"inputs holds {item!r}: expected Input(name, axes, dtype), or a tuple, dict or dataclass of them"
        )

    def _filled(self, item: Any, values: Sequence[Any]) -> Any:
        if isinstance(item, int):
            return values[item]
        if isinstance(item, dict):
            return {key: self._filled(value, values) for key, value in item.items()}
        if isinstance(item, (tuple, list)):
            return _remade(item, [self._filled(value, values) for value in item])
        return dataclasses.replace(item, **{k: self._filled(v, values) for k, v in _fields(item)})


def _require_own_keys(item: Any) -> None:
    """Refuse a dict or dataclass in which an Input has the name of another key."""
    entries: dict[Any, Any] = {}
    if isinstance(item, Mapping):
        entries = dict(item)
    elif isinstance(item, tuple) and hasattr(item, "_fields"):
        entries = dict(zip(item._fields, item, strict=True))  # type: ignore[attr-defined] - a named tuple
    elif _is_dataclass(item):
        entries = dict(_fields(item))
    for key, value in entries.items():
        if isinstance(value, Input) and value.name != key and value.name in entries:
            raise InputsError(
                f"inputs holds the Input {value.name!r} where the model takes {key!r}, and {value.name!r} is another "
                "of its names there: give each Input the name of its key, or new names to all"
            )


def _is_dataclass(item: Any) -> bool:
    return dataclasses.is_dataclass(item) and not isinstance(item, type)


def _remade(like: Any, items: list[Any]) -> Any:
    """A tuple, named tuple or list of other items."""
    return type(like)(*items) if hasattr(like, "_fields") else type(like)(items)


def _fields(item: Any) -> list[tuple[str, Any]]:
    """The fields of a dataclass that hold something, and no default None."""
    values = [(field.name, getattr(item, field.name)) for field in dataclasses.fields(item)]
    return [(name, value) for name, value in values if value is not None]
