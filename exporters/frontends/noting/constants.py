"""Numbers that stand in the user's code, or in its modules, as numbers that note; and whole ones that it names.

`t = 0 ... t += 1 ... if t == 400: break` counts with nothing but such numbers, and no size tells of it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from types import CodeType, FunctionType, ModuleType
from typing import Any

from seqport.exporters.frontends.noting.noted import NotedFloat, NotedInt, plain_of
from seqport.exporters.frontends.noting.owners import filled, is_library, is_tensor, of_users

# How far a number may be from a name, and how many items of a container are looked at.
_DEEPEST, _MANY = 4, 100


@dataclass
class Code:
    """What a run of a model leads through, outside of libraries.

    Attributes:
        executed: code of its functions.
        names: the global names of their files, by identity.
    """

    executed: set[CodeType] = field(default_factory=set)
    names: dict[int, dict[str, Any]] = field(default_factory=dict)


@contextmanager
def constants_noted(parts: Sequence[Any], code: Code, wanted: bool) -> Iterator[None]:
    """Within this block the numbers that the code of a run holds and names note, where wanted.

    Those are in functions' code and defaults, in attributes of the user's modules and in global names of its files.
    """
    with ExitStack() as stack:
        for function in _functions(parts, code) if wanted else ():
            stack.callback(setattr, function, "__code__", function.__code__)
            function.__code__ = _noting(function.__code__)
            if function.__defaults__:
                stack.callback(setattr, function, "__defaults__", function.__defaults__)
                function.__defaults__ = tuple(map(_constant, function.__defaults__))
        for names in _named(parts, code) if wanted else ():
            stack.callback(_put_back, names)
            names.update({name: _constant(value) for name, value in names.items() if type(value) in (int, float)})
        yield


def _named(parts: Sequence[Any], code: Code) -> list[dict[str, Any]]:
    """Where the user's code names numbers: its modules or layers, and its files."""
    return [*(vars(part) for part in parts if not is_library(_file(type(part)))), *code.names.values()]


def _file(kind: type) -> str:
    return getattr(sys.modules.get(kind.__module__ or ""), "__file__", None) or ""


def _put_back(names: dict[str, Any]) -> None:
    """What notes becomes a plain number again; what the run itself has changed stays changed."""
    names.update({name: plain_of(value) for name, value in names.items() if isinstance(value, (NotedInt, NotedFloat))})


def _functions(parts: Sequence[Any], code: Code) -> list[FunctionType]:
    """The functions whose code was executed, wherever the files and the modules keep them."""
    waiting: list[Any] = [item for names in code.names.values() for item in list(names.values())]
    for part in parts:
        waiting += [type(part), *vars(part).values()]
    seen: set[int] = set()
    found: list[FunctionType] = []
    while waiting:
        item = waiting.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, FunctionType) and item.__code__ in code.executed:
            found.append(item)
        waiting += _behind(item)
    return found


def _behind(item: Any) -> Iterable[Any]:
    """The functions that a function, a method or a class leads to."""
    if isinstance(item, FunctionType):
        return [*filled(item.__closure__), *vars(item).values()]
    if isinstance(item, property):
        return item.fget, item.fset
    if isinstance(item, (staticmethod, classmethod)):
        return (item.__func__,)
    if isinstance(item, partial):
        return (item.func,)
    if isinstance(item, type) and of_users(item):
        return [*vars(item).values(), *item.__mro__[1:]]
    return (item.__func__,) if hasattr(type(item), "__func__") else ()


def _noting(code: CodeType) -> CodeType:
    return code.replace(co_consts=tuple(map(_constant, code.co_consts)))


def _constant(value: Any) -> Any:
    if isinstance(value, CodeType):
        return _noting(value)
    if type(value) not in (int, float) or value <= 0:
        return value
    return NotedInt(value) if type(value) is int else NotedFloat(value)


def numbers_named(parts: Sequence[Any], code: Code) -> frozenset[int]:
    """Whole numbers that the code holds or names, and lengths of lists, in its files and in the modules.

    Args:
        parts: its modules or layers.
        code: what its run leads through.
    """
    names = {name for item in code.executed for name in (*item.co_names, *item.co_freevars)}
    waiting: list[tuple[Any, int]] = [(item.co_consts, 0) for item in code.executed]
    for owner in (*code.names.values(), *map(vars, parts)):
        waiting += [(owner[name], 0) for name in names if name in owner]
    for function in _functions(parts, code):
        waiting += [(item, 0) for item in (*filled(function.__closure__), *(function.__defaults__ or ()))]
    found: set[int] = set()
    seen: set[int] = set()
    while waiting:
        item, depth = waiting.pop()
        if isinstance(item, (int, float)):
            found |= {int(item)} if item == item // 1 and not isinstance(item, bool) else set()
        elif depth < _DEEPEST and id(item) not in seen and not is_tensor(item) and not isinstance(item, ModuleType):
            seen.add(id(item))
            waiting += [(part, depth + 1) for part in _held(item, names)]
    return frozenset(found)


def _held(item: Any, names: set[str]) -> list[Any]:
    """What a value holds: all items of a container, and those attributes that the code names."""
    if isinstance(item, CodeType):
        return [item.co_consts]
    if isinstance(item, (tuple, list, set, frozenset, dict)):
        return [len(item), *list(item.values() if isinstance(item, dict) else item)[:_MANY]]
    attributes = getattr(item, "__dict__", {})
    return [attributes[name] for name in names if name in attributes]
