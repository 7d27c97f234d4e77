"""What a module's own code says of its loops: whether there may be one, and at which steps it may do otherwise."""

from __future__ import annotations

import dis
from collections.abc import Iterable, Iterator
from types import CodeType, FunctionType
from typing import Any

from torch import Tensor, nn

_LOOPS = frozenset({"FOR_ITER", "JUMP_BACKWARD"})
# A number of steps above this is no step that anybody counts to.
_LARGEST = 5000
# How far a number may be from the module, and how many of a list are looked at.
_DEEPEST, _MANY = 4, 100


def may_loop(model: nn.Module) -> bool:
    """Whether a module runs single cells, or its own code holds a loop; a guess that only says what to try first."""
    modules = list(model.modules())
    if any(isinstance(module, nn.RNNCellBase) for module in modules):
        return True
    return any(_loops(function.__code__) for module in modules for function in _functions(module))


def numbers_in(model: nn.Module) -> list[int]:
    """Numbers that a module's code and attributes hold: `if t == 400: break` shows at 401 steps only.

    Also those in tuples and dicts, in plain objects (a configuration), and in what the code names: constants and
    functions of its own file.
    """
    found: set[int] = set()
    seen: set[int] = set()
    todo: list[tuple[Any, int]] = []
    for module in model.modules():
        if type(module).__module__.partition(".")[0] != "torch":
            todo += [(value, 0) for value in vars(module).values()]
            todo += [(function, 0) for function in _functions(module)]
    while todo:
        value, depth = todo.pop()
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            if 0 < value <= _LARGEST and value == int(value):
                found.add(int(value))
        elif depth < _DEEPEST and id(value) not in seen:
            seen.add(id(value))
            todo += [(item, depth + 1) for item in _within(value)]
    return sorted(found)


def _within(value: Any) -> Iterable[Any]:
    """What a value of a module's own holds."""
    if isinstance(value, FunctionType):
        named = (value.__globals__.get(name) for name in value.__code__.co_names)
        return [value.__code__, *(item for item in named if isinstance(item, (int, float, tuple, dict, FunctionType)))]
    if isinstance(value, CodeType):
        return value.co_consts
    if isinstance(value, (tuple, list, set, frozenset)):
        return list(value)[:_MANY]
    if isinstance(value, dict):
        return list(value.values())[:_MANY]
    if isinstance(value, (nn.Module, Tensor, type)) or type(value).__module__.partition(".")[0] in (
        "torch",
        "builtins",
    ):
        return ()
    return list(getattr(value, "__dict__", {}).values())[:_MANY]


def _functions(module: nn.Module) -> Iterator[FunctionType]:
    for owner in type(module).__mro__:
        if owner.__module__.partition(".")[0] not in ("torch", "builtins", "typing"):
            yield from (f for f in vars(owner).values() if isinstance(f, FunctionType) and f.__name__ != "__init__")
    yield from (item for item in vars(module).values() if isinstance(item, FunctionType))


def _loops(code: CodeType) -> bool:
    return any(item.opname in _LOOPS for item in dis.get_instructions(code))
