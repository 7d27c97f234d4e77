"""Runs of a model during which the numbers of its code note what they are compared with.

What notes (`noted.py`): sizes of tensors, which the frontend of a framework sees to; what `range`, `len`, `enumerate`,
`int`, `float`, `itertools.count` and functions of `math` give to the files that the model leads to; and the numbers
that stand in their code or that it names. Nothing of such a run but its notes is used.
"""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import cached_property
from types import FrameType
from typing import Any

from seqport.exporters.comparisons import Notes
from seqport.exporters.frontends.noting import noted
from seqport.exporters.frontends.noting.constants import Code, constants_noted, numbers_named
from seqport.exporters.frontends.noting.owners import is_users
from seqport.exporters.frontends.noting.recording import recording
from seqport.exporters.frontends.noting.standins import STAND_INS, TYPES
from seqport.exporters.frontends.patching import attribute, here

_MISSING = object()
# Functions of `math` that have a form for arrays of numbers; all others are called number by number.
_MATH = ("sqrt", "log", "log2", "log10", "log1p", "exp", "fabs", "fmod", "gcd", "ceil", "floor", "trunc")
_OF_LISTS = ("fsum", "prod", "dist", "sumprod")


class NotedRuns:
    """Runs a model and notes what its code compares.

    Args:
        parts: the modules or layers of the model, whose attributes are numbers that it names.
        sizes: a context in which sizes note where the user's own code asks for them; one for each run.
        functions: of the framework, with what stands for them in the files of the user's that have imported them.
    """

    def __init__(
        self,
        parts: Sequence[Any],
        sizes: Callable[[], AbstractContextManager[Any]],
        functions: Sequence[tuple[Any, str, Callable[..., Any]]] = (),
    ) -> None:
        self._parts, self._sizes, self._functions = parts, sizes, functions
        self._known: Code | None = None

    def notes(self, run: Callable[[], Any]) -> Notes:
        """What the user's code compares while the model runs; nothing where it does not take numbers that note."""
        code, failed = self._known, ""
        if code is None:
            code = self._known = _code(run)
        for with_types, with_constants in ((True, True), (True, False), (False, True), (False, False)):
            try:
                with (
                    recording() as recorder,
                    _stand_ins(code, with_types, self._functions),
                    constants_noted(self._parts, code, with_constants),
                    self._sizes(),
                ):
                    run()
            except Exception as error:  # whatever a function of the user's does to an int that is no plain one
                failed = failed or f"{type(error).__name__}: {str(error).strip() or 'no message'}".splitlines()[0][:200]
                continue
            return Notes(recorder.notes, 0, self._numbers | recorder.numbers)
        run()  # what the model itself does not take tells nothing of its code
        return Notes({}, 0, self._numbers, failed)

    @cached_property
    def _numbers(self) -> frozenset[int]:
        return numbers_named(self._parts, self._known or Code())


def _code(run: Callable[[], Any]) -> Code:
    """The code that the run leads through, libraries left out."""
    found = Code()

    def see(frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and frame.f_code not in found.executed and is_users(frame.f_code.co_filename):
            found.executed.add(frame.f_code)
            found.names[id(frame.f_globals)] = frame.f_globals

    before = sys.getprofile()
    sys.setprofile(see)
    try:
        run()
    finally:
        sys.setprofile(before)
    return found


@contextmanager
def _stand_ins(code: Code, with_types: bool, further: Sequence[tuple[Any, str, Callable[..., Any]]]) -> Iterator[None]:
    """Within this block the files' Python functions of numbers give numbers that note."""
    functions = {name: item for name, item in STAND_INS.items() if with_types or name not in TYPES}
    of_math = [name for name, item in vars(math).items() if callable(item) and name not in _OF_LISTS]
    of_modules = [*((math, name, _noting(name)) for name in of_math), (itertools, "count", noted_count), *further]
    with ExitStack() as stack:
        for module, name, function in of_modules:
            original = getattr(module, name)
            stack.enter_context(attribute(module, name, here(function, original)))
            for names in code.names.values():
                for own in [own for own, item in names.items() if item is original]:
                    stack.enter_context(_name(names, own, function))
        for names in code.names.values():
            for name, item in functions.items():
                if name not in names:
                    stack.enter_context(_name(names, name, item))
        yield


@contextmanager
def _name(names: dict[str, Any], name: str, value: Any) -> Iterator[None]:
    before = names.get(name, _MISSING)
    names[name] = value
    try:
        yield
    finally:
        if before is _MISSING:
            del names[name]
        else:
            names[name] = before


def _noting(name: str) -> Callable[..., Any]:
    """A function of `math` that notes what it computes."""
    original = getattr(math, name)
    operator = name if name in _MATH else original

    def function(*args: Any, **options: Any) -> Any:
        value = original(*map(noted.plain_of, args), **options)
        return (
            value
            if options or not all(isinstance(item, (int, float)) for item in args)
            else noted.computed(operator, value, *args)
        )

    return function


def noted_count(start: Any = 0, step: Any = 1) -> Iterator[Any]:
    """`itertools.count`."""
    return map(noted.size, itertools_count(start, step))


itertools_count = itertools.count
