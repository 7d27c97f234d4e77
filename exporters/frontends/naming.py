"""The user's names on a traced graph."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from seqport.exporters.errors import InputsError
from seqport.exporters.signature import Input


def chosen_outputs(found: Sequence[str], wanted: Sequence[str] | None, inputs: Sequence[Input]) -> list[str]:
    """The names of the outputs: the user's, or the model's own, none of them an input's.

    Raises:
        InputsError: the model gives another number of outputs.
    """
    if wanted is not None:
        if len(wanted) != len(found):
            raise InputsError(f"outputs names {len(wanted)} outputs {list(wanted)}, and the model gives {len(found)}")
        return list(wanted)
    taken = {item.name for item in inputs}
    return [f"{name}_out" if name in taken else name for name in found]


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
