"""Numbers that note every comparison that they, and what is computed from them, go through.

They are ints and floats to everybody else: PyTorch, lists and formats take them. What leaves Python (numpy arrays,
C code) is an ordinary number again; a lookup in a dict or set is noted as a comparison with each of its keys.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from seqport.exporters.comparisons import CHANGES, Term
from seqport.exporters.frontends.noting import recording
from seqport.exporters.frontends.noting.recording import Side

# NumPy's names of comparisons.
_COMPARING = {
    "less": "lt",
    "less_equal": "le",
    "greater": "gt",
    "greater_equal": "ge",
    "equal": "eq",
    "not_equal": "ne",
}


# Operators whose results stay the same over many sizes.
_STEPWISE = frozenset({"floordiv", "mod", "rshift"})
# Numbers that were computed in more steps than this are counters.
_DEEP = 64
# Text of a number has another length from these on.
_DIGITS = (10, 100, 1000, 10_000)


class _Noted:
    """What ints and floats that note have in common."""

    term: Term
    is_size: bool

    @classmethod
    def of(cls, term: Term, *, is_size: bool) -> Any:
        """The number that a term gives."""
        made = NotedFloat(term.value) if isinstance(term.value, float) else NotedInt(term.value)
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

    def __str__(self) -> str:
        return str(self._as_text())

    def __repr__(self) -> str:
        return repr(self._as_text())

    def __format__(self, form: str) -> str:
        return format(self._as_text(), form)

    def _as_text(self) -> Any:
        """The number without its notes, for text, whose length may be asked."""
        if self.is_size or self.term.operator:
            for digits in _DIGITS:
                note("ge", self, digits)
        return self.term.value


class NotedInt(_Noted, int):
    """An int that notes."""

    def __new__(cls, value: int) -> NotedInt:  # noqa: D102
        made = int.__new__(cls, value)
        made.term, made.is_size = Term(int.__int__(made)), False
        return made

    def __hash__(self) -> int:
        if self.is_size or self.term.operator:
            recording.note_lookup(_side(self))
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


def computed(name: str | Callable[..., Any], value: Any, *operands: Any) -> Any:
    """A number that an operator of this name gave."""
    if not isinstance(value, (int, float)):
        return value
    sizes = [item for item in operands if isinstance(item, _Noted) and item.is_size]
    terms = tuple(term_of(item) for item in operands)
    depth = 1 + max((term.depth for term in terms), default=0)
    if isinstance(value, bool):
        note("ne", _Noted.of(Term(int(value), name, terms, depth), is_size=bool(sizes)), 0)
        return value
    if depth > _DEEP or (depth == 1 and len(sizes) < 2 and _counts(name, value, sizes)):
        return size(value)  # a counter, of which the sum of all that was added would tell no more
    made = _Noted.of(Term(value, name, terms, depth), is_size=bool(sizes))
    if sizes and isinstance(name, str) and name in _STEPWISE:
        _note_steps(name, made, *operands)
    return made


def _counts(name: str | Callable[..., Any], value: float, sizes: Sequence[Any]) -> bool:
    """Whether it adds to a counter, or scales one; a part of a size (`n * 0.02`) is none."""
    if isinstance(value, int):
        return name in ("add", "sub")
    return name in ("add", "sub", "mul", "truediv") and all(isinstance(item, float) for item in sizes)


def _note_steps(name: str, made: Any, left: Any, right: Any) -> None:
    """Note that a number moves by steps: it may choose from a list, a module by name, or a part of a sequence."""
    if name == "mod":
        value = plain_of(left) // plain_of(right)
        made = _Noted.of(Term(value, "floordiv", made.term.operands, made.term.depth), is_size=True)
    note(CHANGES, made, 0)


def size(value: float) -> Any:
    """A size, a step or a counter."""
    return _Noted.of(Term(value), is_size=True)


def note(holds: str, left: Any, right: Any) -> None:
    """Note a comparison of two numbers."""
    recording.note(holds, _side(left), _side(right))


def _side(number: Any) -> Side:
    is_noted = isinstance(number, _Noted)
    constant = not (is_noted and (number.is_size or number.term.operator))
    return Side(term_of(number), constant, written=is_noted and constant)


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


def _unary(name: str | Callable[..., Any], apply: Callable[..., Any]) -> Callable[..., Any]:
    def compute(self: Any, *args: Any) -> Any:
        value = apply(plain_of(self), *args)
        return computed(name if not args or args[0] is None else apply, value, self, *args)

    return compute


def _bool(self: Any) -> bool:
    note("ne", self, 0)
    return bool(plain_of(self))


def _divmod(self: Any, other: Any) -> Any:
    return self // other, self % other


def _rdivmod(self: Any, other: Any) -> Any:
    return other // self, other % self


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
# Methods that give another number, as Python's own.
_METHODS: dict[type, tuple[str, ...]] = {
    int: ("__invert__", "bit_length", "bit_count", "conjugate"),
    float: ("is_integer", "conjugate"),
}
for _kind, _base in ((NotedInt, int), (NotedFloat, float)):
    for _name in ("lt", "le", "gt", "ge", "eq", "ne"):
        setattr(_kind, f"__{_name}__", _comparison(_base, _name))
    for _name in (*_BINARY, *(_OF_INTS if _base is int else ())):
        setattr(_kind, f"__{_name}__", _binary(_name, swapped=False))
        setattr(_kind, f"__r{_name}__", _binary(_name, swapped=True))
    for _name, _apply in _UNARY.items():
        setattr(_kind, f"__{_name}__", _unary(_name, _apply))
    for _name in _METHODS[_base]:
        setattr(_kind, _name, _unary(getattr(_base, _name), getattr(_base, _name)))
    _kind.__bool__ = _bool
    _kind.__divmod__ = _divmod
    _kind.__rdivmod__ = _rdivmod
