"""The inputs and outputs of an export, as the user declares them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from seqport.exporters.errors import InputsError

# The element types that ONNX Runtime's recurrent models take; names are NumPy's.
DTYPES = ("float32", "float64", "float16", "int64", "int32", "int16", "int8", "uint8", "bool")


@dataclass(frozen=True)
class Input:
    """One input of the exported model.

    Args:
        name: its name in the ONNX file.
        axes: one entry an axis: a string is dynamic and keeps that name, an int is fixed.
        dtype: NumPy's name of the element type.

    Raises:
        InputsError: an empty name, an axis that is neither, or an unknown element type.
    """

    name: str
    axes: tuple[str | int, ...]
    dtype: str = "float32"

    def __post_init__(self) -> None:
        object.__setattr__(self, "axes", tuple(self.axes))
        if not self.name or not isinstance(self.name, str):
            raise InputsError(f"an input's name is {self.name!r}: expected a string that is not empty")
        for axis in self.axes:
            valid = axis if isinstance(axis, str) else isinstance(axis, int) and axis > 0
            if not valid or isinstance(axis, bool):
                raise InputsError(
                    f"input {self.name!r} has the axis {axis!r}: expected a name (dynamic) or a positive int (fixed)"
                )
        if self.dtype not in DTYPES:
            raise InputsError(f"input {self.name!r} has dtype {self.dtype!r}: expected one of {', '.join(DTYPES)}")

    @property
    def dynamic_axes(self) -> dict[int, str]:
        """Position → name of every dynamic axis."""
        return {i: axis for i, axis in enumerate(self.axes) if isinstance(axis, str)}

    def shape(self, sizes: dict[str, int]) -> tuple[int, ...]:
        """The concrete shape when every dynamic axis has the size that `sizes` gives it."""
        return tuple(sizes[axis] if isinstance(axis, str) else axis for axis in self.axes)


def check_inputs(inputs: Iterable[Input]) -> tuple[Input, ...]:
    """The inputs as a tuple, with names that differ.

    Raises:
        InputsError: there is none, or two share a name.
    """
    checked = tuple(inputs)
    if not checked:
        raise InputsError("inputs is empty: expected at least one Input(name, axes, dtype)")
    _require_unique("inputs", [item.name for item in checked])
    return checked


def check_outputs(outputs: Sequence[str] | None, inputs: Sequence[Input]) -> tuple[str, ...] | None:
    """The output names as a tuple, or None where the frontend is to choose them.

    Raises:
        InputsError: two names are the same, or one is an input's.
    """
    if outputs is None:
        return None
    if isinstance(outputs, str):
        raise InputsError(f"outputs is the string {outputs!r}: expected a list of names, as [{outputs!r}]")
    names = tuple(outputs)
    for name in names:
        if not isinstance(name, str) or not name:
            raise InputsError(f"outputs holds {name!r}: expected names, each a string that is not empty")
    _require_unique("inputs and outputs", [item.name for item in inputs] + list(names))
    return names


def axis_names(inputs: Sequence[Input]) -> list[str]:
    """Every dynamic axis, each name once, in order of appearance."""
    return list(dict.fromkeys(name for item in inputs for name in item.dynamic_axes.values()))


def _require_unique(where: str, names: Sequence[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputsError(f"{where} repeat the name {twice[0]!r}: expected every name once")
