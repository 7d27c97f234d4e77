"""Numbers that note every comparison that they, and what is computed from them, go through.

They are ints and floats to everybody else: PyTorch, lists and formats take them. What leaves Python (numpy arrays,
C code) is an ordinary number again; a lookup in a dict or set is noted as a comparison with each of its keys.
"""

from __future__ import annotations

import linecache
import math
import operator
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
import torch.overrides

from seqport.exporters.comparisons import Comparison, Term

# A place in code compares with so many different constants at most, beyond its first and last visit.
_CONSTANTS = 24
# Lines that led to a comparison, and keys of a container, that are looked at.
_CALLERS, _KEYS = 4, 100
# Python files whose comparisons are not the user's.
_LIBRARY = (str(Path(torch.__file__).parent), str(Path(np.__file__).parent), str(Path(__file__).parent))

# Files between the user's line and a note of it.
_WRAPPERS = (str(Path(__file__).parent), str(Path(torch.__file__).parent / "_tensor.py"), torch.overrides.__file__)
# NumPy's names of comparisons.
_COMPARING = {
    "less": "lt",
    "less_equal": "le",
    "greater": "gt",
    "greater_equal": "ge",
    "equal": "eq",
    "not_equal": "ne",
}

_active = threading.local()


class Recorder:
    """Comparisons of one run of the model.

    Attributes:
        notes: the first and the last visit of each place in the user's code, for each constant that it compares with.
    """

    def __init__(self) -> None:
        self.notes: dict[tuple[object, ...], Comparison] = {}
        self._constants: dict[tuple[object, ...], set[float]] = {}

    def note(self, holds: str, left: Any, right: Any, frame: FrameType) -> None:
        """Note a comparison that a frame makes."""
        callers = _callers(frame)
        if not callers or frame.f_code.co_filename.startswith(_LIBRARY):
            return
        line = f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"
        text = linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip()
        found = Comparison(holds, term_of(left), term_of(right), f"{line} ({text})" if text else line)
        place = (*callers, holds)
        constant = _constant(left, right)
        known = self._constants.setdefault(place, set())
        if constant is not None and (constant in known or len(known) < _CONSTANTS):
            known.add(constant)
            self._keep((*place, constant), found)
        self._keep(place, found)

    def _keep(self, key: tuple[object, ...], found: Comparison) -> None:
        self.notes.setdefault((*key, "first"), found)
        self.notes[(*key, "last")] = found


def _callers(frame: FrameType | None) -> list[tuple[object, ...]]:
    """The nearest frames outside of libraries, each by what is the same in every run."""
    found: list[tuple[object, ...]] = []
    while frame is not None and len(found) < _CALLERS:
        code = frame.f_code
        if not code.co_filename.startswith(_LIBRARY):
            found.append((code.co_filename, code.co_name, frame.f_lineno, frame.f_lasti))
        frame = frame.f_back
    return found


def _constant(left: Any, right: Any) -> float | None:
    """The side of a comparison that neither was computed nor is a size or a step."""
    sides = [side for side in (left, right) if not (isinstance(side, _Noted) and (side.is_size or side.term.operator))]
    written = [side for side in sides if isinstance(side, _Noted)]  # in the code, as a literal
    return float(next(iter(written or sides))) if sides else None


@contextmanager
def recording() -> Iterator[Recorder]:
    """Within this block the numbers below write to the recorder, in this thread."""
    before, _active.recorder = getattr(_active, "recorder", None), Recorder()
    try:
        yield _active.recorder
    finally:
        _active.recorder = before


class _Noted:
    """What ints and floats that note have in common."""

    term: Term
    is_size: bool

    @classmethod
    def of(cls, term: Term, *, is_size: bool) -> Any:
        """The number that a term gives."""
        kind = NotedFloat if isinstance(term.value, float) else NotedInt
        made = kind(term.value)
        made.term, made.is_size = term, is_size
        return made

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        plain = [plain_of(item) if isinstance(item, _Noted) else item for item in inputs]
        value = getattr(ufunc, method)(*plain, **options)
        if ufunc.__name__ in _COMPARING and all(isinstance(item, (int, float)) for item in plain):
            note(_COMPARING[ufunc.__name__], *inputs)
        if method != "__call__" or options or not all(isinstance(item, (int, float)) for item in plain):
            return value
        return computed(ufunc.__name__, value.item(), *inputs) if isinstance(value, np.generic) else value

    def __deepcopy__(self, _: Any) -> Any:
        return self


class NotedInt(_Noted, int):
    """An int that notes."""

    def __new__(cls, value: int) -> NotedInt:  # noqa: D102
        made = int.__new__(cls, value)
        made.term, made.is_size = Term(int.__int__(made)), False
        return made

    def __hash__(self) -> int:
        if self.is_size or self.term.operator:
            _note_lookup(self, sys._getframe(1))
        return int.__hash__(self)


class NotedFloat(_Noted, float):
    """A float that notes."""

    def __new__(cls, value: float) -> NotedFloat:  # noqa: D102
        made = float.__new__(cls, value)
        made.term, made.is_size = Term(float.__float__(made)), False
        return made

    __hash__ = float.__hash__


def plain_of(number: Any) -> Any:
    """The number without its notes."""
    return number.term.value if isinstance(number, _Noted) else number


def term_of(number: Any) -> Term:
    """How a number was computed."""
    return number.term if isinstance(number, _Noted) else Term(number)


def computed(name: str, value: Any, *operands: Any) -> Any:
    """A number that an operator of this name gave."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return value
    is_size = any(isinstance(item, _Noted) and item.is_size for item in operands)
    return _Noted.of(Term(value, name, tuple(term_of(item) for item in operands)), is_size=is_size)


def size(value: int) -> NotedInt:
    """A size or a step."""
    return _Noted.of(Term(value), is_size=True)


def note(holds: str, left: Any, right: Any) -> None:
    """Note a comparison that the code above this file and PyTorch's wrappers of methods makes."""
    recorder: Recorder | None = getattr(_active, "recorder", None)
    if recorder is None:
        return
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith(_WRAPPERS):
        frame = frame.f_back
    if frame is not None:
        recorder.note(holds, left, right, frame)


def _note_lookup(number: NotedInt, frame: FrameType) -> None:
    """A lookup compares with every key of the containers that the frame's code names."""
    recorder: Recorder | None = getattr(_active, "recorder", None)
    if recorder is None or frame.f_code.co_filename.startswith(_LIBRARY):
        return
    known = {**frame.f_globals, **frame.f_locals}
    named = [known[name] for name in (*frame.f_code.co_names, *frame.f_locals) if name in known]
    held = [item for owner in named for item in getattr(owner, "__dict__", {}).values()]
    for container in (*frame.f_code.co_consts, *named, *held):
        if isinstance(container, (dict, set, frozenset)):
            for key in [key for key in list(container)[:_KEYS] if type(key) is int]:
                recorder.note("eq", number, key, frame)


def _comparison(base: type, name: str) -> Callable[[Any, Any], Any]:
    own = getattr(base, f"__{name}__")

    def compare(self: Any, other: Any) -> Any:
        result = own(self, other)
        if result is NotImplemented and isinstance(other, (int, float)):
            result = getattr(operator, name)(plain_of(self), plain_of(other))
        if isinstance(result, bool):
            note(name, self, other)
        return result

    return compare


def _binary(name: str, swapped: bool) -> Callable[[Any, Any], Any]:
    apply = getattr(operator, {"and": "and_", "or": "or_"}.get(name, name))

    def compute(self: Any, other: Any) -> Any:
        if not isinstance(other, (int, float)):
            return NotImplemented
        sides = (other, self) if swapped else (self, other)
        try:
            value = apply(*(plain_of(side) for side in sides))
        except TypeError:
            return NotImplemented
        return computed(name, value, *sides)

    return compute


def _unary(name: str, apply: Callable[..., Any]) -> Callable[..., Any]:
    def compute(self: Any, *args: Any) -> Any:
        value = apply(plain_of(self), *args)
        return value if args and args[0] is not None else computed(name, value, self)

    return compute


def _bool(self: Any) -> bool:
    note("ne", self, 0)
    return bool(plain_of(self))


def _divmod(self: Any, other: Any) -> Any:
    return self // other, self % other


_BINARY = ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow")
_OF_INTS = ("and", "or", "xor", "lshift", "rshift")
_UNARY: dict[str, Callable[..., Any]] = {
    "neg": operator.neg,
    "pos": operator.pos,
    "abs": abs,
    "round": round,
    "ceil": math.ceil,
    "floor": math.floor,
    "trunc": math.trunc,
}
for _kind, _base in ((NotedInt, int), (NotedFloat, float)):
    for _name in ("lt", "le", "gt", "ge", "eq", "ne"):
        setattr(_kind, f"__{_name}__", _comparison(_base, _name))
    for _name in (*_BINARY, *(_OF_INTS if _base is int else ())):
        setattr(_kind, f"__{_name}__", _binary(_name, swapped=False))
        setattr(_kind, f"__r{_name}__", _binary(_name, swapped=True))
    for _name, _apply in _UNARY.items():
        setattr(_kind, f"__{_name}__", _unary(_name, _apply))
    _kind.__bool__ = _bool
    _kind.__divmod__ = _divmod
