"""Which structure of arguments a module's forward takes, and which declared input is which of its arguments.

Inputs go by name where all of them are parameters of forward, else by position, and never half by each.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from types import FunctionType
from typing import Any

from torch import nn

from seqport.exporters.arrangement import Arrangement
from seqport.exporters.errors import InputsError
from seqport.exporters.frontends.naming import require_places
from seqport.exporters.frontends.noting.owners import filled
from seqport.exporters.signature import Input

_P = inspect.Parameter
_NAMED = (_P.POSITIONAL_OR_KEYWORD, _P.KEYWORD_ONLY)
_PLACED = (_P.POSITIONAL_ONLY, _P.POSITIONAL_OR_KEYWORD)


def arrangements(model: nn.Module, declared: Arrangement) -> Iterator[Arrangement]:
    """The declared arrangement, by name where forward has a parameter of every input's name; else the likely ones.

    Where forward takes fewer arguments than there are inputs, `forward(x, state)` with inputs x, h_0, c_0 takes the
    last two as a tuple; `forward(batch)` takes what it is annotated with, a dict by name or a tuple. Which one a module
    means only a trace can tell, so they are tried in this order.

    Raises:
        InputsError: some names are those of forward's parameters, but not all, or one is another parameter's.
    """
    flat, signature = declared.inputs, _signature(model)
    if not declared.is_flat:
        _require_places(signature, declared)
        yield declared
        return
    names = [item.name for item in flat]
    if _named(signature, names):
        yield Arrangement(flat, by_name=True)
        return
    if _takes(signature, len(flat)):
        own = _own(signature, len(flat))
        if set(filter(None, own)) <= set(names):
            yield Arrangement(_in_order(flat, own), inputs=flat)
            return
        _require_places(signature, declared)
        yield declared
        return
    for count in range(len(flat) - 1, 0, -1):
        if _takes(signature, count):
            head, tail = flat[: count - 1], flat[count - 1 :]
            if (made := _annotated(model, count, tail)) is not None:
                yield _placed(signature, [*head, made], flat)
            yield _placed(signature, [*head, tuple(tail)], flat)
            yield _placed(signature, [*head, {item.name: item for item in tail}], flat)
            return
    yield declared  # and its own error


def _signature(model: nn.Module) -> inspect.Signature:
    """Forward's signature; behind a decorator that hides it, that of the function which the decorator holds."""
    signature = inspect.signature(model.forward)
    kinds = [parameter.kind for parameter in signature.parameters.values()]
    if kinds != [_P.VAR_POSITIONAL, _P.VAR_KEYWORD]:
        return signature
    function = getattr(model.forward, "__func__", model.forward)
    inner = [item for item in filled(getattr(function, "__closure__", None)) if isinstance(item, FunctionType)]
    if len(inner) != 1:
        return signature
    parameters = list(inspect.signature(inner[0]).parameters.values())
    return inspect.Signature(parameters[1:] if parameters and parameters[0].name == "self" else parameters)


def _own(signature: inspect.Signature, count: int) -> list[str | None]:
    """Forward's own names of its first arguments; None for those of *args."""
    placed: list[str | None] = [p.name for p in signature.parameters.values() if p.kind in _PLACED]
    return [*placed, *[None] * count][:count]


def _in_order(inputs: Sequence[Input], own: Sequence[str | None]) -> list[Input]:
    """For each argument the input of its name; those without a name get the others, in their order."""
    by_name = {item.name: item for item in inputs}
    rest = iter([item for item in inputs if item.name not in own])
    return [next(rest) if name is None else by_name[name] for name in own]


def _placed(signature: inspect.Signature, nested: Sequence[Any], inputs: Sequence[Input]) -> Arrangement:
    arrangement = Arrangement(nested, inputs=inputs)
    _require_places(signature, arrangement)
    return arrangement


def _require_places(signature: inspect.Signature, arrangement: Arrangement) -> None:
    """Refuse an arrangement by position in which some names are forward's own.

    Raises:
        InputsError: they are.
    """
    names = arrangement.names
    own = _own(signature, len(names))
    others = [p.name for p in signature.parameters.values() if p.kind in _NAMED and p.name not in own]
    require_places(names, own, others, parameters=True)
    taken = {place for place, name in zip(own, names, strict=True) if name is None}
    for name in sorted(arrangement.inner & ({*own, *others} - taken)):
        raise InputsError(
            f"inputs holds {name!r} within a tuple, dict or dataclass, and forward takes an argument {name!r} of its "
            f"own ({', '.join(signature.parameters)}): call every input by the model's own name, or none of them"
        )


def _annotated(model: nn.Module, count: int, tail: Sequence[Input]) -> Any:
    """The tail as the dataclass or named tuple that forward's last argument is said to be; None where it is neither.

    Raises:
        InputsError: some names are those of its fields, but not all.
    """
    try:
        kind = list(inspect.signature(model.forward, eval_str=True).parameters.values())[count - 1].annotation
    except (NameError, IndexError):
        return None
    fields = getattr(kind, "_fields", None) or tuple(getattr(kind, "__dataclass_fields__", ()))
    if not isinstance(kind, type) or not fields:
        return None
    by_name = {item.name: item for item in tail}
    if set(by_name) <= set(fields):
        return kind(**by_name)
    if len(tail) > len(fields):
        return None
    require_places(list(by_name), fields[: len(tail)], fields[len(tail) :])
    return kind(**dict(zip(fields, tail, strict=False)))


def _named(signature: inspect.Signature, names: Sequence[str]) -> bool:
    """Whether forward takes every one of the names as a keyword, and nothing else that it needs."""
    parameters = signature.parameters
    anything = any(p.kind is _P.VAR_KEYWORD for p in parameters.values())
    if not all(anything or (name in parameters and parameters[name].kind in _NAMED) for name in names):
        return False
    try:
        signature.bind(**dict.fromkeys(names))
    except TypeError:
        return False
    return True


def _takes(signature: inspect.Signature, count: int) -> bool:
    try:
        signature.bind(*range(count))
    except TypeError:
        return False
    return True
