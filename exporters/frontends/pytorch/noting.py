"""A run of the user's model, on real tensors, whose sizes, steps and written numbers note what they are compared with.

Nothing of the run but its notes is used. What notes (`noted.py`): sizes of tensors; what `range`, `len`, `enumerate`,
`int`, `float`, `itertools.count` and functions of `math` give to the files that the forward leads to; and the ints that
stand in their code.
"""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from functools import cached_property
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from seqport.exporters.comparisons import Notes
from seqport.exporters.frontends.patching import attribute, here
from seqport.exporters.frontends.pytorch import noted
from seqport.exporters.frontends.pytorch.constants import Code, constants_noted, numbers_named
from seqport.exporters.frontends.pytorch.longest import COMPARISONS
from seqport.exporters.frontends.pytorch.owners import is_users
from seqport.exporters.frontends.pytorch.recording import recording
from seqport.exporters.frontends.pytorch.standins import STAND_INS, TYPES

_MISSING = object()
# Functions of `math` that have a form for arrays of numbers; all others are called number by number.
_MATH = ("sqrt", "log", "log2", "log10", "log1p", "exp", "fabs", "fmod", "gcd", "ceil", "floor", "trunc")
_OF_LISTS = ("fsum", "prod", "dist", "sumprod")
# Methods of tensors that give a size, or a number that may be a length.
_NUMBERS = frozenset({Tensor.size, Tensor.shape.__get__, Tensor.numel, Tensor.nelement, Tensor.item, Tensor.tolist})  # pyright: ignore[reportAttributeAccessIssue]


class Noting:
    """Runs a model and notes what its code compares.

    Args:
        model: the module.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._known: Code | None = None

    def notes(self, run: Callable[[], Any], *, sized: bool = True) -> Notes:
        """What the user's code compares while the model runs; nothing where it does not take numbers that note.

        Args:
            run: runs the model.
            sized: whether to count the elements of its largest tensor too, inside of recurrent layers step by step.
        """
        code, failed, largest = self._known, "", _Largest()
        if code is None:
            code = self._known = _code(run)
        for with_types, with_constants in ((True, True), (True, False), (False, True), (False, False)):
            try:
                with (
                    recording() as recorder,
                    _stand_ins(code, with_types),
                    constants_noted(self._model, code, with_constants),
                    largest if sized else nullcontext(),
                    _Sizes(),
                ):
                    run()
            except Exception as error:  # whatever a function of the user's does to an int that is no plain one
                failed = failed or f"{type(error).__name__}: {str(error).strip() or 'no message'}".splitlines()[0][:200]
                continue
            return Notes(recorder.notes, largest.elements, self._numbers | recorder.numbers)
        run()  # what the model itself does not take tells nothing of its code
        return Notes({}, 0, self._numbers, failed)

    @cached_property
    def _numbers(self) -> frozenset[int]:
        return numbers_named(self._model, self._known or Code())


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
def _stand_ins(code: Code, with_types: bool) -> Iterator[None]:
    """Within this block the files' Python functions of numbers give numbers that note."""
    functions = {name: item for name, item in STAND_INS.items() if with_types or name not in TYPES}
    of_math = [name for name, item in vars(math).items() if callable(item) and name not in _OF_LISTS]
    of_modules = {**{name: (math, _noting(name)) for name in of_math}, "count": (itertools, noted_count)}
    with ExitStack() as stack:
        for name, (module, function) in of_modules.items():
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


class _Sizes(TorchFunctionMode):
    """Sizes and numbers of tensors note, where the user's own code asks for them."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if func in COMPARISONS and len(args) == 2 and all(_is_number(item) for item in args):
            noted.note(COMPARISONS[func].__name__, *map(_number, args))
        noted.recording.note_numbers(tree_leaves([_bounds(item) for item in args]))
        if func in _NUMBERS and is_users(sys._getframe(1).f_code.co_filename):
            return _noted(result)
        return result


class _Largest(TorchDispatchMode):
    """Counts the elements of the largest tensor; attention in one operator counts as what it is computed from."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if all(item.alias_info is None for item in func._schema.returns):  # a view has no memory of its own
            found = [item for item in tree_leaves(result) if isinstance(item, Tensor)]
            self.elements = max([self.elements, *(item.numel() for item in found)])
        if "attention" in str(func):
            rows = [item for item in args if isinstance(item, Tensor) and item.dim() > 2]
            steps = max((item.shape[-2] for item in rows), default=1)
            self.elements = max([self.elements, *(item.numel() // item.shape[-1] * steps for item in rows)])
        return result


def _bounds(item: Any) -> Any:
    """A slice as the numbers that it holds."""
    if isinstance(item, slice):
        return [item.start, item.stop]
    return [_bounds(each) for each in item] if isinstance(item, tuple) else item


def _is_number(item: Any) -> bool:
    """Whether a side of a comparison is a number, as `lengths.max()` is."""
    return isinstance(item, int) or (isinstance(item, Tensor) and item.dim() == 0 and not item.is_floating_point())


def _number(item: Any) -> Any:
    return noted.size(int(item)) if isinstance(item, Tensor) else item


def _noted(result: Any) -> Any:
    if type(result) is int:
        return noted.size(result)
    if isinstance(result, torch.Size):
        return torch.Size([noted.size(item) for item in result])
    return [_noted(item) for item in result] if isinstance(result, list) else result
