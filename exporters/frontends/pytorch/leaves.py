"""What a forward returns, as named tensors: tuples, dicts, named tuples, dataclasses and packed sequences opened."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from seqport.exporters.errors import InputsError

_PACKED = ("data", "batch_sizes", "sorted_indices", "unsorted_indices")


def leaves(value: Any) -> list[tuple[str, Any]]:
    """Name and tensor (or symbolic size) of everything in a result that is not None.

    Raises:
        InputsError: something in it is no tensor.
    """
    return [(_name(path), leaf) for path, leaf in _walk(value, ())]


def _walk(value: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    if value is None:
        return
    if isinstance(value, (Tensor, torch.SymInt)) or type(value) is int:
        yield path, value
        return
    parts = _parts(value)
    if parts is None:
        raise InputsError(
            f"forward returns {value!r} ({_name(path)}), which is no tensor: return tensors, or leave it out"
        )
    for key, part in parts:
        yield from _walk(part, (*path, str(key)))


def _parts(value: Any) -> list[tuple[Any, Any]] | None:
    """Keys and values of a structure, in its order; None for what is none."""
    if isinstance(value, Mapping):
        return list(value.items())
    if isinstance(value, PackedSequence):
        return [(name, getattr(value, name)) for name in _PACKED]
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return list(zip(value._fields, value, strict=True))  # pyright: ignore[reportAttributeAccessIssue]
    if isinstance(value, (tuple, list)):
        return list(enumerate(value))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [(field.name, getattr(value, field.name)) for field in dataclasses.fields(value)]
    return None


def _name(path: tuple[str, ...]) -> str:
    if not path:
        return "output"
    return "_".join(["output", *path] if path[0].isdigit() else path)
