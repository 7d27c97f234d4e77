"""Turns what users pass (lists, numbers, tensors) into arrays, only where no value changes."""

from __future__ import annotations

from typing import Any

import numpy as np

from seqport.runtime.errors import InputDtypeError, InputRankError


def numpy_dtype(name: str) -> np.dtype | None:
    """The NumPy dtype of a described tensor; None where NumPy has none (bfloat16, string)."""
    try:
        return np.dtype(name)
    except TypeError:
        return None


def as_array(name: str, value: Any, dtype: np.dtype | None) -> np.ndarray:
    """An array of `value`, which is not yet an ndarray.

    Plain Python numbers and (nested) lists of them have no element type of their own, so they take
    the input's where that keeps their value: `[1, 2]` becomes float32 or int64, `1.5` no int64, 300
    no uint8. A Python float is rounded to the input's precision, as every framework does.
    Whatever has a dtype (a list of arrays, a tensor) keeps it, for the caller to check.

    Raises:
        InputDtypeError: a value would change, or is no number.
        InputRankError: nested lists of different lengths.
    """
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise InputRankError(
            f"input {name!r} came as nested lists of different lengths, expected a rectangular array: "
            "pad them and give the lengths, or let Session.predict do both"
        ) from error
    except (TypeError, RuntimeError) as error:  # a tensor on a GPU, or one that requires a gradient
        raise InputDtypeError(
            f"input {name!r} came as {type(value).__name__}, which NumPy cannot read ({error}): "
            "expected an array in main memory"
        ) from error
    if dtype is None or array.dtype == dtype or not _plain(value):
        return array
    if array.dtype.kind in "biuf":
        with np.errstate(over="ignore", invalid="ignore"):
            cast = array.astype(dtype)
        if _same(array, cast):
            return cast
    raise InputDtypeError(
        f"input {name!r} came as Python values ({array.dtype}), some of which {dtype} cannot hold: "
        f"expected values of {dtype}, such as np.array(..., dtype=np.{dtype})"
    )


def _plain(value: Any) -> bool:
    """Whether it is a Python number or lists of them, with no element type of its own."""
    while isinstance(value, list | tuple) and value:
        value = value[0]
    return isinstance(value, bool | int | float | list | tuple) and not isinstance(value, np.generic)


def _same(before: np.ndarray, after: np.ndarray) -> bool:
    if before.dtype.kind == "f" and after.dtype.kind == "f":
        return bool((np.isfinite(after) == np.isfinite(before)).all())
    # As Python numbers, because int and float then compare exactly; NumPy would round both first.
    return before.tolist() == after.tolist()
