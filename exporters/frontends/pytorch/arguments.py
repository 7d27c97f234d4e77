"""Which structure of arguments a module's forward takes, where the declared inputs are flat."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

from torch import nn

from seqport.exporters.arrangement import Arrangement


def arrangements(model: nn.Module, declared: Arrangement) -> Iterator[Arrangement]:
    """The declared arrangement; then, where forward takes fewer arguments than there are inputs, the likely ones.

    `forward(x, state)` with inputs x, h_0, c_0 takes the last two as a tuple; `forward(batch)` takes a dict by name
    or a tuple. Which one a module means only a trace can tell, so they are tried in this order.
    """
    if not declared.is_flat or _takes(model, len(declared.inputs)):
        yield declared
        return
    flat = declared.inputs
    for count in range(len(flat) - 1, 0, -1):
        if _takes(model, count):
            head, tail = flat[: count - 1], flat[count - 1 :]
            yield Arrangement([*head, tuple(tail)])
            yield Arrangement([*head, {item.name: item for item in tail}])
            return
    yield declared  # and its own error


def _takes(model: nn.Module, count: int) -> bool:
    try:
        inspect.signature(model.forward).bind(*range(count))
    except TypeError:
        return False
    return True
