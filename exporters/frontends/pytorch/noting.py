"""A run of the user's model, on real tensors, whose sizes, steps and written numbers note what they are compared with.

Nothing of the run but its notes is used. What notes (`noted.py`): sizes of tensors; what `range`, `len`, `enumerate`,
`int`, `float`, `itertools.count` and functions of `math` give to the files that the forward leads to; and the ints that
stand in their code.
"""

from __future__ import annotations

import itertools
import math
import sys
import sysconfig
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from seqport.exporters.comparisons import Notes
from seqport.exporters.frontends.patching import attribute, here
from seqport.exporters.frontends.pytorch import noted
from seqport.exporters.frontends.pytorch.constants import Code, constants_noted
from seqport.exporters.frontends.pytorch.standins import STAND_INS, TYPES

_STANDARD, _INSTALLED = sysconfig.get_path("stdlib"), sysconfig.get_path("purelib")
_FRAMEWORKS = (*tuple(str(Path(module.__file__ or "").parent) for module in (torch, np)), str(Path(__file__).parent))
_MISSING = object()
_MATH = ("sqrt", "log", "log2", "log10", "log1p", "exp", "fabs", "fmod", "gcd")
# Methods of tensors that give a size, or a number that may be a length.
_NUMBERS = frozenset({Tensor.size, Tensor.shape.__get__, Tensor.numel, Tensor.nelement, Tensor.item, Tensor.tolist})  # pyright: ignore[reportAttributeAccessIssue]


def notes_of(model: nn.Module, run: Callable[[], Any]) -> Notes:
    """What the user's code compares while the model runs; nothing where it does not take numbers that note.

    Args:
        model: the module.
        run: runs it.
    """
    code = _code(run)
    for with_types, with_constants in ((True, True), (True, False), (False, True), (False, False)):
        try:
            with (
                noted.recording() as recorder,
                _stand_ins(code, with_types),
                constants_noted(model, code, with_constants),
                _Sizes(),
            ):
                run()
        except Exception:  # whatever a function of the user's does to an int that is no plain one
            continue
        return recorder.notes
    return {}


def _code(run: Callable[[], Any]) -> Code:
    """The code that the run leads through, libraries left out."""
    found = Code()

    def see(frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and frame.f_code not in found.executed and _is_users(frame.f_code.co_filename):
            found.executed.add(frame.f_code)
            found.names[id(frame.f_globals)] = frame.f_globals

    before = sys.getprofile()
    sys.setprofile(see)
    try:
        run()
    finally:
        sys.setprofile(before)
    return found


def _is_users(path: str) -> bool:
    if path.startswith(_FRAMEWORKS):
        return False
    return path.startswith(_INSTALLED) or not path.startswith((_STANDARD, "<frozen"))


@contextmanager
def _stand_ins(code: Code, with_types: bool) -> Iterator[None]:
    """Within this block the files' Python functions of numbers give numbers that note."""
    functions = {name: item for name, item in STAND_INS.items() if with_types or name not in TYPES}
    of_modules = {**{name: (math, _noting(name)) for name in _MATH}, "count": (itertools, noted_count)}
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

    def function(*args: Any) -> Any:
        return noted.computed(name, original(*map(noted.plain_of, args)), *args)

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
        if func in _NUMBERS and _is_users(sys._getframe(1).f_code.co_filename):
            return _noted(result)
        return result


def _noted(result: Any) -> Any:
    if type(result) is int:
        return noted.size(result)
    if isinstance(result, torch.Size):
        return torch.Size([noted.size(item) for item in result])
    return [_noted(item) for item in result] if isinstance(result, list) else result
