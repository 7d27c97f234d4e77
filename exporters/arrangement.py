"""How flat inputs reach a model that takes some of them in tuples or dicts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from seqport.exporters.errors import InputsError
from seqport.exporters.signature import Input

Nested = Any  # an Input, or a tuple, list or dict of Nested


class Arrangement:
    """The structure of a model's arguments, with the position of a flat input at each leaf.

    Args:
        nested: one entry an argument of the model: an Input, or a tuple, list or dict of them, however deep.
    """

    def __init__(self, nested: Iterable[Nested]) -> None:
        self.inputs: list[Input] = []
        self._arguments = [self._placed(item) for item in nested]

    @property
    def is_flat(self) -> bool:
        """Whether every argument is one input."""
        return all(isinstance(item, int) for item in self._arguments)

    def arguments(self, values: Sequence[Any]) -> tuple[Any, ...]:
        """The model's arguments, made of one value an input."""
        return tuple(self._filled(item, values) for item in self._arguments)

    def _placed(self, item: Nested) -> Any:
        if isinstance(item, Input):
            self.inputs.append(item)
            return len(self.inputs) - 1
        if isinstance(item, Mapping):
            return {key: self._placed(value) for key, value in item.items()}
        if isinstance(item, (tuple, list)):
            return type(item)(self._placed(value) for value in item)
        raise InputsError(f"inputs holds {item!r}: expected Input(name, axes, dtype), or a tuple or dict of them")

    def _filled(self, item: Any, values: Sequence[Any]) -> Any:
        if isinstance(item, int):
            return values[item]
        if isinstance(item, dict):
            return {key: self._filled(value, values) for key, value in item.items()}
        return type(item)(self._filled(value, values) for value in item)
