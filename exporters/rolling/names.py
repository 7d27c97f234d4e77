"""The user's name of a loop's layer."""

from __future__ import annotations

from collections.abc import Iterable

import onnx_ir as ir

from seqport.exporters.cell import is_cell
from seqport.exporters.recurrent import RecurrentCall
from seqport.exporters.rolling.terms import Applied, Term


def layer_name(terms: Iterable[Term]) -> str:
    """The module that holds the weights which the terms multiply by; "the loop" where none has a name."""
    nodes = [term.node for term in terms if isinstance(term, Applied)]
    cells = sorted(RecurrentCall.from_node(node).layer for node in nodes if is_cell(node))
    if cells:
        return cells[0]
    return name_of([node for node in nodes if node.op_type in ("MatMul", "Gemm")])


def name_of(products: Iterable[ir.Node]) -> str:
    """The module of products with weights."""
    names = sorted({name for node in products for value in node.inputs[1::-1] if (name := _weight(value))})
    owners = {name.rpartition(".")[0] for name in names}
    if len(owners) == 1:
        return owners.pop() or names[0]
    shared = _shared([owner.split(".") for owner in sorted(owners)])
    return shared or ", ".join(sorted(owner for owner in owners if owner)) or "the loop"


def _weight(value: ir.Value | None) -> str:
    """The name of the parameter behind a value."""
    while value is not None:
        if value.is_initializer():
            return value.name or ""
        node = value.producer()
        value = node.inputs[0] if node is not None and node.inputs else None
    return ""


def _shared(paths: list[list[str]]) -> str:
    found: list[str] = []
    for parts in zip(*paths, strict=False):
        if len(set(parts)) > 1:
            break
        found.append(parts[0])
    return ".".join(found)
