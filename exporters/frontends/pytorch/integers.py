"""`int`, `len`, `list`, `max` and `range` in a user's forward: sizes and lengths stay symbolic while it is traced.

`int(lengths.max())`, `len(x)`, `max(lengths.tolist())` and `y[range(len(y)), lengths - 1]` are how many modules spell
a size. Python's own functions must give numbers, which would freeze the traced one, so these names lead here in the
files that the module's forwards come from.
"""

from __future__ import annotations

import builtins
from collections.abc import Iterator
from contextlib import contextmanager
from types import FunctionType
from typing import Any

import torch
from torch import nn

from seqport.exporters.frontends.noting.owners import of_users
from seqport.exporters.frontends.noting.standins import StandIn
from seqport.exporters.frontends.pytorch.longest import Longest
from seqport.exporters.frontends.pytorch.numbers import TracedNumbers

_MISSING = object()


class _Int(metaclass=StandIn):
    """Stands for `int`."""

    stands_for = builtins.int

    @classmethod
    def called(cls, value: Any = 0, *_: Any) -> Any:
        if isinstance(value, (torch.SymInt, Longest)):
            return value
        return value.item() if isinstance(value, torch.Tensor) and not value.is_floating_point() else None


class _List(metaclass=StandIn):
    """Stands for `list`: lengths as a list are good for packing, and so is their tensor."""

    stands_for = builtins.list

    @classmethod
    def called(cls, value: Any = ()) -> Any:
        whole = isinstance(value, torch.Tensor) and value.dim() == 1 and not value.is_floating_point()
        return value if whole or isinstance(value, TracedNumbers) else None


def _max(*args: Any, **kwargs: Any) -> Any:
    """Stands for `max`."""
    if len(args) == 1 and not kwargs and isinstance(args[0], TracedNumbers):
        return args[0].tensor.max().item()
    if len(args) == 1 and not kwargs and isinstance(args[0], torch.Tensor) and args[0].dim() == 1:
        return args[0].max()
    return builtins.max(*args, **kwargs)


def _len(value: Any) -> Any:
    """Stands for `len`."""
    return value.shape[0] if isinstance(value, torch.Tensor) and value.dim() else builtins.len(value)


def _range(*args: Any) -> Any:
    """Stands for `range`: as an index, a tensor of the same numbers does the same."""
    return torch.arange(*args) if any(isinstance(arg, torch.SymInt) for arg in args) else builtins.range(*args)


_NAMES = {"int": _Int, "len": _len, "list": _List, "max": _max, "range": _range}


@contextmanager
def integers_symbolic(model: nn.Module, wanted: bool, *, with_range: bool) -> Iterator[None]:
    """Within this block these names keep sizes symbolic in the files of the model's own code, where wanted.

    PyTorch does not take that `int` for a dtype (`dtype=int`), so it is wanted only where a trace without it failed.
    """
    stand_ins = {name: found for name, found in _NAMES.items() if with_range or name != "range"}
    changed = [(names, {name: names.get(name, _MISSING) for name in stand_ins}) for names in _namespaces(model)]
    try:
        for names, before in changed if wanted else []:
            names.update({name: found for name, found in stand_ins.items() if before[name] is _MISSING})
        yield
    finally:
        for names, before in changed if wanted else []:
            for name in stand_ins:
                if before[name] is _MISSING:
                    del names[name]


def _namespaces(model: nn.Module) -> list[dict[str, Any]]:
    """The global names of the files that the model's methods, and the functions that it keeps, were written in."""
    found: dict[int, dict[str, Any]] = {}
    for module in model.modules():
        owners = [vars(base) for base in type(module).__mro__ if of_users(base)]
        for function in (item for names in (*owners, vars(module)) for item in names.values()):
            function = getattr(function, "__wrapped__", function)  # behind a decorator such as torch.no_grad()
            if isinstance(function, FunctionType) and of_users(function):
                found[id(function.__globals__)] = function.__globals__
    return list(found.values())
