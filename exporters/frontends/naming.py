"""The user's names on a traced graph."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import onnx_ir as ir

from seqport.exporters.errors import InputsError
from seqport.exporters.signature import Input

# What parameters are called whatever they take; so are all of one letter.
_SAY_NOTHING = frozenset({"input", "inputs", "data", "batch", "hx"})


def chosen_outputs(found: Sequence[str], wanted: Sequence[str] | None, inputs: Sequence[Input]) -> list[str]:
    """The names of the outputs in the model's order: the user's, or the model's own, none of them an input's.

    Where the user names the model's own outputs in another order, each keeps its name: see `order_outputs`.

    Raises:
        InputsError: the model gives another number of outputs, or calls another of them by one of these names.
    """
    taken = {item.name for item in inputs}
    own = [f"{name}_out" if name in taken else name for name in found]
    if wanted is None or sorted(wanted) == sorted(own):
        return own
    if len(wanted) != len(own):
        raise InputsError(f"outputs names {len(wanted)} outputs {list(wanted)}, and the model gives {len(found)}")
    for position, (name, here) in enumerate(zip(wanted, own, strict=True)):
        if name in own and name != here:
            raise InputsError(
                f"outputs names {name!r} at position {position}, where the model gives {here!r}, and the model's own "
                f"{name!r} stands at position {own.index(name)}: its outputs are {', '.join(own)}. Give new names in "
                "this order, or all of these names in any order"
            )
    return list(wanted)


def order_outputs(graph: ir.Graph, names: Sequence[str], wanted: Sequence[str] | None) -> None:
    """Put the graph's outputs, which have these names, in the order that the user wants; further ones stay behind."""
    if wanted is not None and list(wanted) != list(names[: len(wanted)]):
        ordered = [*wanted, *names[len(wanted) :]]
        graph.outputs[:] = [graph.outputs[names.index(name)] for name in ordered]


def order_of(names: Sequence[str], own: Sequence[str], *, ordered: bool) -> list[int]:
    """For each of the model's own inputs, which declared one it is: by name, or by position where no name is known.

    Args:
        names: of the declared inputs.
        own: the model's names of its inputs.
        ordered: whether `own` is an order that the model's author gave.

    Raises:
        InputsError: another number of inputs, or it cannot be told which is which.
    """
    if len(names) != len(own):
        raise InputsError(f"inputs names {len(names)} inputs ({', '.join(names)}); the model takes {', '.join(own)}")
    if set(names) == set(own):
        return [names.index(name) for name in own]
    require_places(names, own)
    if len(own) > 1 and not ordered:
        raise _no_such(names, own)
    return list(range(len(own)))


def require_places(
    names: Sequence[str | None], own: Sequence[str | None], others: Iterable[str] = (), *, parameters: bool = False
) -> None:
    """Refuse names that go by position where some of them are the model's own: then which is which cannot be told.

    Args:
        names: of the declared inputs, one an argument of the model; None for a tuple or dict of several.
        own: the model's own names of these arguments; None for one without, as those of `*args`.
        others: its own names of arguments that are left out.
        parameters: these are names of a Python function's parameters, and an `x` or `input` says nothing.

    Raises:
        InputsError: a name is that of another argument, or some names are the model's own and others are not.
    """
    known = [name for name in (*own, *others) if name is not None]
    given = [(name, here) for name, here in zip(names, own, strict=True) if name is not None]
    elsewhere = next(((name, here) for name, here in given if name != here and name in known), None)
    mixed = [name == here for name, here in given if here is not None and not (parameters and _says_nothing(here))]
    if elsewhere or len(set(mixed)) > 1:
        raise _no_such([name for name, _ in given], known, elsewhere)


def _says_nothing(parameter: str) -> bool:
    return len(parameter) == 1 or parameter in _SAY_NOTHING


def _no_such(names: Sequence[str], own: Sequence[str], elsewhere: tuple[str, str | None] | None = None) -> InputsError:
    missing = _listed(name for name in names if name not in own)
    lacks = f", and no {missing}" if missing else ""
    swap = ""
    if elsewhere is not None:
        name, here = elsewhere
        swap = f". {name!r} stands where it takes {here!r}" if here else f". {name!r} stands where it names no input"
    return InputsError(
        f"inputs names {_listed(names)}; the model takes {_listed(own)}{lacks}: "
        f"call every input by the model's own name, in any order{swap}"
    )


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)


def name_interface(graph: ir.Graph, inputs: Sequence[Input], outputs: Sequence[str]) -> None:
    """Name the graph's inputs and outputs; whatever else had such a name gets another."""
    names = {item.name for item in inputs} | set(outputs)
    for name in [name for name in graph.initializers if name in names]:
        value = graph.initializers.pop(name)
        value.name = f"{name}.value"
        graph.initializers[value.name] = value
    for node in graph:
        for value in node.outputs:
            if value.name in names:
                value.name = f"{value.name}.value"
    for value, item in zip(graph.inputs, inputs, strict=True):
        value.name = item.name
    for value, name in zip(graph.outputs, outputs, strict=True):
        value.name = name
