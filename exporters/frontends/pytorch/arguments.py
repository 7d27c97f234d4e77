"""Which structure of arguments a module's forward takes, where the declared inputs are flat."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from typing import Any

from torch import nn

from seqport.exporters.arrangement import Arrangement
from seqport.exporters.signature import Input

_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def arrangements(model: nn.Module, declared: Arrangement) -> Iterator[Arrangement]:
    """The declared arrangement, by name where forward has a parameter of every input's name; else the likely ones.

    Where forward takes fewer arguments than there are inputs, `forward(x, state)` with inputs x, h_0, c_0 takes the
    last two as a tuple; `forward(batch)` takes what it is annotated with, a dict by name or a tuple. Which one a module
    means only a trace can tell, so they are tried in this order.
    """
    flat = declared.inputs
    if declared.is_flat and _named(model, [item.name for item in flat]):
        yield Arrangement(flat, by_name=True)
        return
    if not declared.is_flat or _takes(model, len(flat)):
        yield declared
        return
    for count in range(len(flat) - 1, 0, -1):
        if _takes(model, count):
            head, tail = flat[: count - 1], flat[count - 1 :]
            if (made := _annotated(model, count, tail)) is not None:
                yield Arrangement([*head, made])
            yield Arrangement([*head, tuple(tail)])
            yield Arrangement([*head, {item.name: item for item in tail}])
            return
    yield declared  # and its own error


def _annotated(model: nn.Module, count: int, tail: Sequence[Input]) -> Any:
    """The tail as the dataclass or named tuple that forward's last argument is said to be; None where it is neither."""
    try:
        kind = list(inspect.signature(model.forward, eval_str=True).parameters.values())[count - 1].annotation
    except (NameError, IndexError):
        return None
    by_name = {item.name: item for item in tail}
    fields = getattr(kind, "_fields", None) or tuple(getattr(kind, "__dataclass_fields__", ()))
    return kind(**by_name) if isinstance(kind, type) and fields and set(by_name) <= set(fields) else None


def _named(model: nn.Module, names: list[str]) -> bool:
    """Whether forward takes every one of the names as a keyword, and nothing else that it needs."""
    parameters = inspect.signature(model.forward).parameters
    anything = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    if not all(anything or (name in parameters and parameters[name].kind in _NAMED) for name in names):
        return False
    try:
        inspect.signature(model.forward).bind(**dict.fromkeys(names))
    except TypeError:
        return False
    return True


def _takes(model: nn.Module, count: int) -> bool:
    try:
        inspect.signature(model.forward).bind(*range(count))
    except TypeError:
        return False
    return True
