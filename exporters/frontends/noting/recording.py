"""Where numbers write down what they are compared with: by the user's line, the first and the last visit of each.

A comparison is known again in the next run by the lines that led to it. Those of libraries are not the user's.
"""

from __future__ import annotations

import linecache
import os
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any, NamedTuple

from seqport.exporters.comparisons import Comparison, Term
from seqport.exporters.frontends.noting.owners import is_library, is_tensor, is_users

# A place in code compares with so many different constants at most, beyond its first and last visit.
_CONSTANTS = 24
# Lines that led to a comparison, keys of a container, and containers in one another, that are looked at.
_CALLERS, _KEYS, _DEEP = 4, 100, 3
# Files between the user's line and a note of it: ours, and PyTorch's wrappers of methods.
_OURS = str(Path(__file__).parents[1]) + os.sep
_WRAPPERS = tuple(f"{os.sep}torch{os.sep}{name}" for name in ("_tensor.py", "overrides.py"))

_active = threading.local()


class Side(NamedTuple):
    """One side of a comparison.

    Attributes:
        term: how the number was computed.
        constant: whether it was not computed, and is neither a size nor a step.
        written: whether it stands in the code.
    """

    term: Term
    constant: bool
    written: bool


class Recorder:
    """Comparisons of one run of the model.

    Attributes:
        notes: the first and the last visit of each place in the user's code, for each constant that it compares with.
        numbers: whole numbers that it cuts, counts or makes tensors with.
    """

    def __init__(self) -> None:
        self.notes: dict[tuple[object, ...], Comparison] = {}
        self.numbers: set[int] = set()
        self._constants: dict[tuple[object, ...], set[float]] = {}

    def note(self, holds: str, left: Side, right: Side, frame: FrameType) -> None:
        """Note a comparison that a frame makes."""
        code = frame.f_code
        if is_library(code.co_filename):
            return
        text = linecache.getline(code.co_filename, frame.f_lineno).strip()
        line = f"{Path(code.co_filename).name}:{frame.f_lineno}" + (f" ({text})" if text else "")
        found = Comparison(holds, left.term, right.term, line)
        place = (*_callers(frame), holds)
        sides = sorted([side for side in (left, right) if side.constant], key=lambda side: not side.written)
        if sides:
            constant = float(sides[0].term.value)
            known = self._constants.setdefault(place, set())
            if constant in known or len(known) < _CONSTANTS:
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
        if not is_library(code.co_filename):
            found.append((code.co_filename, code.co_name, frame.f_lineno, frame.f_lasti))
        frame = frame.f_back
    return found


@contextmanager
def recording() -> Iterator[Recorder]:
    """Within this block comparisons are written down, in this thread."""
    before, _active.recorder = getattr(_active, "recorder", None), Recorder()
    try:
        yield _active.recorder
    finally:
        _active.recorder = before


def note(holds: str, left: Side, right: Side) -> None:
    """Note a comparison that the code above this folder and PyTorch's wrappers of methods makes."""
    recorder: Recorder | None = getattr(_active, "recorder", None)
    frame = _caller()
    if recorder is not None and frame is not None:
        recorder.note(holds, left, right, frame)


def note_numbers(values: Iterable[Any]) -> None:
    """Note whole numbers that may end something: bounds of slices, arguments of ranges and of operators."""
    recorder: Recorder | None = getattr(_active, "recorder", None)
    if recorder is not None:
        whole = [value for value in values if isinstance(value, int) and not isinstance(value, bool)]
        recorder.numbers.update(int(value) for value in whole if not getattr(value, "is_size", False))


def note_lookup(number: Side) -> None:
    """A lookup compares with every key of the containers that the code names."""
    recorder: Recorder | None = getattr(_active, "recorder", None)
    frame = _caller()
    if recorder is None or frame is None or is_library(frame.f_code.co_filename):
        return
    known = {**frame.f_globals, **frame.f_locals}
    named = [known[name] for name in (*frame.f_code.co_names, *frame.f_locals) if name in known]
    for container in (*frame.f_code.co_consts, *_held(named)):
        if isinstance(container, (dict, set, frozenset)):
            for key in [key for key in list(container)[:_KEYS] if type(key) is int]:
                recorder.note("eq", number, Side(Term(key), constant=True, written=True), frame)


def _held(named: Iterable[Any]) -> list[Any]:
    """What the code names, and what that holds: `self.configuration.special`."""
    found = {id(item): item for item in named}
    further = list(found.values())
    for _ in range(_DEEP):
        further = [item for owner in further for item in _items(owner)[:_KEYS] if id(item) not in found]
        found.update((id(item), item) for item in further)
    return list(found.values())


def _items(owner: Any) -> list[Any]:
    if is_tensor(owner) or isinstance(owner, (ModuleType, type)):
        return []
    if isinstance(owner, (dict, list, tuple)):
        return list(owner.values() if isinstance(owner, dict) else owner)
    return list(getattr(owner, "__dict__", {}).values())


def called_by_user() -> bool:
    """Whether the code above this folder and a framework's wrappers is the user's own."""
    frame = _caller()
    return frame is not None and is_users(frame.f_code.co_filename)


def _caller() -> FrameType | None:
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and _is_between(frame.f_code.co_filename):
        frame = frame.f_back
    return frame


def _is_between(path: str) -> bool:
    return path.startswith(_OURS) or path.endswith(_WRAPPERS)
