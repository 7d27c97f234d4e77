"""Ints that stand in the user's code, as numbers that note what they are compared with.

`t = 0 ... t += 1 ... if t == 400: break` counts with nothing but such ints, and no size tells of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from types import CodeType, FunctionType
from typing import Any

from torch import nn

from seqport.exporters.frontends.pytorch.noted import NotedInt


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
def constants_noted(model: nn.Module, code: Code, wanted: bool) -> Iterator[None]:
    """Within this block the ints in the code that a run leads through are numbers that note, where wanted."""
    with ExitStack() as stack:
        for function in _functions(model, code) if wanted else ():
            stack.callback(setattr, function, "__code__", function.__code__)
            function.__code__ = _noting(function.__code__)
        yield


def _functions(model: nn.Module, code: Code) -> list[FunctionType]:
    """The functions whose code was executed, wherever the files and the modules keep them."""
    waiting: list[Any] = [item for names in code.names.values() for item in list(names.values())]
    for module in model.modules():
        waiting += [type(module), *vars(module).values()]
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
        return [*(cell.cell_contents for cell in item.__closure__ or () if _is_filled(cell)), *vars(item).values()]
    if isinstance(item, property):
        return item.fget, item.fset
    if isinstance(item, (staticmethod, classmethod)):
        return (item.__func__,)
    if isinstance(item, partial):
        return (item.func,)
    if isinstance(item, type) and item.__module__.partition(".")[0] not in ("torch", "builtins", "typing"):
        return [*vars(item).values(), *item.__mro__[1:]]
    return (item.__func__,) if hasattr(type(item), "__func__") else ()


def _is_filled(cell: Any) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:
        return False


def _noting(code: CodeType) -> CodeType:
    return code.replace(co_consts=tuple(map(_constant, code.co_consts)))


def _constant(value: Any) -> Any:
    if isinstance(value, CodeType):
        return _noting(value)
    return NotedInt(value) if type(value) is int and value > 0 else value
