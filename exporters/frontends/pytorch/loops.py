"""Whether a module's own code may hold a loop."""

from __future__ import annotations

import dis
from collections.abc import Iterator
from types import CodeType, FunctionType

from torch import nn

from seqport.exporters.frontends.noting.owners import of_users

_LOOPS = frozenset({"FOR_ITER", "JUMP_BACKWARD"})


def may_loop(model: nn.Module) -> bool:
    """Whether a module runs single cells, or its own code holds a loop; a guess that only says what to try first."""
    modules = list(model.modules())
    if any(isinstance(module, nn.RNNCellBase) for module in modules):
        return True
    return any(_loops(function.__code__) for module in modules for function in _functions(module))


def _functions(module: nn.Module) -> Iterator[FunctionType]:
    for owner in type(module).__mro__:
        if of_users(owner):
            yield from (f for f in vars(owner).values() if isinstance(f, FunctionType) and f.__name__ != "__init__")
    yield from (item for item in vars(module).values() if isinstance(item, FunctionType))


def _loops(code: CodeType) -> bool:
    return any(item.opname in _LOOPS for item in dis.get_instructions(code))
