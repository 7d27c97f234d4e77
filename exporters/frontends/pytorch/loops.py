"""What a module's own code says of its loops: whether there may be one, and at which steps it may do otherwise."""

from __future__ import annotations

import dis
from collections.abc import Iterator
from types import CodeType, FunctionType

from torch import nn

_LOOPS = frozenset({"FOR_ITER", "JUMP_BACKWARD"})
# A number of steps above this is no step that anybody counts to.
_LARGEST = 5000


def may_loop(model: nn.Module) -> bool:
    """Whether a module runs single cells, or its own code holds a loop; a guess that only says what to try first."""
    modules = list(model.modules())
    if any(isinstance(module, nn.RNNCellBase) for module in modules):
        return True
    return any(_loops(code) for module in modules for code in _codes(module))


def numbers_in(model: nn.Module) -> list[int]:
    """Whole numbers that the code and the attributes of a module hold: `if t == 400: break` shows at 401 steps only."""
    found: set[int] = set()
    for module in model.modules():
        if type(module).__module__.partition(".")[0] == "torch":
            continue
        values = [*vars(module).values(), *(item for code in _codes(module) for item in code.co_consts)]
        found |= {value for value in values if type(value) is int and 0 < value <= _LARGEST}
    return sorted(found)


def _codes(module: nn.Module) -> Iterator[CodeType]:
    for owner in type(module).__mro__:
        if owner.__module__.partition(".")[0] not in ("torch", "builtins", "typing"):
            functions = [item for item in vars(owner).values() if isinstance(item, FunctionType)]
            yield from (item.__code__ for item in functions if item.__name__ != "__init__")
    yield from (item.__code__ for item in vars(module).values() if isinstance(item, FunctionType))


def _loops(code: CodeType) -> bool:
    return any(item.opname in _LOOPS for item in dis.get_instructions(code))
