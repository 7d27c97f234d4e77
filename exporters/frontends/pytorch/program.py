"""A module, traced by torch.export with its recurrent layers whole and its declared axes dynamic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.fx.experimental.symbolic_shapes import is_concrete_int

from seqport.exporters.arrangement import Arrangement
from seqport.exporters.frontends.pytorch.arguments import arrangements
from seqport.exporters.frontends.pytorch.cells import has_cells
from seqport.exporters.frontends.pytorch.datasizes import DataSizes
from seqport.exporters.frontends.pytorch.flat import Flat
from seqport.exporters.frontends.pytorch.patches import recurrent_layers_whole
from seqport.exporters.frontends.pytorch.reasons import explained, fixed_axis
from seqport.exporters.signature import Input, axis_names

# Sizes of the dynamic axes while tracing. Values never matter (the tensors are fake), but a size of 1
# would be taken for a constant, and a convolution over time needs some steps.
_FIRST_SIZE = 19
# A size that no input reaches; torch.export writes infinity as something larger.
_UNBOUNDED = 2**31
_PRIMES = (7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97)


class _Way(NamedTuple):
    """One way to trace; each further one changes more of what Python and PyTorch do, for what the last refused."""

    symbolic_int: bool  # int, len and range of sizes stay symbolic
    sizes_as_inputs: bool  # sizes that depend on values are traced as sizes of inputs


_WAYS = (_Way(False, False), _Way(True, False), _Way(True, True))


@dataclass(frozen=True)
class Program:
    """A traced module.

    Attributes:
        exported: what torch.export gave; its inputs and outputs end with those of `sizes`.
        arrangement: how the module's forward took its inputs.
        outputs: the names of its outputs, from its structure.
        fixed: declared dynamic axes that the trace made constants: axis → the traced size.
        bounds: declared dynamic axes for which the trace holds up to a size: axis → that size.
    """

    exported: torch.export.ExportedProgram
    arrangement: Arrangement
    outputs: list[str]
    fixed: dict[str, int]
    bounds: dict[str, int]


def traced(model: nn.Module, arrangement: Arrangement) -> Program:
    """Trace a module.

    Raises:
        InputsError: forward takes other inputs, or returns what is no tensor.
        RefusedError: a recurrent layer is used in a way that has no native form, or an axis became a constant.
        ExportError: PyTorch cannot trace the module.
    """
    failure: Exception | None = None
    cells = has_cells(model)
    for candidate in arrangements(model, arrangement):
        for way in _WAYS[:2] if cells else _WAYS:
            try:
                program = _traced(model, candidate, way, cells)
            except Exception as error:
                failure = failure or error
                continue
            if not program.fixed or cells:
                return program
            failure = failure or fixed_axis(program.fixed, arrangement.inputs)
    assert failure is not None
    raise explained(failure, arrangement.inputs) from failure


def _traced(model: nn.Module, arrangement: Arrangement, way: _Way, cells: bool) -> Program:
    inputs = arrangement.inputs
    found = _traced_sizes(model, inputs) if cells else _sizes(inputs)
    example = [torch.zeros(i.shape(found), dtype=getattr(torch, i.dtype), device=device_of(model)) for i in inputs]
    sizes = DataSizes(as_inputs=way.sizes_as_inputs)
    added = sizes.examples()
    shapes = [dict.fromkeys(item.dynamic_axes, torch.export.Dim.AUTO) for item in inputs]
    flat = Flat(model, arrangement, sizes)
    with recurrent_layers_whole(model, sizes, symbolic_int=way.symbolic_int):
        exported = torch.export.export(
            flat,
            (*example, *added),
            dynamic_shapes=((*shapes, *({0: torch.export.Dim.AUTO} for _ in added)),),
            strict=False,
        )
    return Program(exported, arrangement, flat.output_names, *_axes(exported, inputs))


def _sizes(inputs: Sequence[Input]) -> dict[str, int]:
    return {name: _FIRST_SIZE + 4 * i for i, name in enumerate(axis_names(inputs))}


def _traced_sizes(model: nn.Module, inputs: Sequence[Input]) -> dict[str, int]:
    """A size for every dynamic axis where loops will unroll: small ones that no weight has."""
    taken = {size for p in model.parameters() for size in p.shape} | {
        a for i in inputs for a in i.axes if isinstance(a, int)
    }
    free = [size for size in _PRIMES if size not in taken]
    return dict(zip(axis_names(inputs), free, strict=False))


def device_of(model: nn.Module) -> torch.device:
    """Where the module's weights are."""
    return next((p.device for p in model.parameters()), torch.device("cpu"))


def _axes(exported: torch.export.ExportedProgram, inputs: Sequence[Input]) -> tuple[dict[str, int], dict[str, int]]:
    """Declared dynamic axes that became constants, and those that the trace holds for up to a size.

    A bound from below is what an operator needs (a convolution its kernel), or one side of a branch in Python; the
    probe tells those apart.
    """
    values = {node.name: node.meta.get("val") for node in exported.graph.nodes if node.op == "placeholder"}
    constraints: Mapping[Any, Any] = exported.range_constraints
    fixed: dict[str, int] = {}
    bounds: dict[str, int] = {}
    for name, item in zip(exported.graph_signature.user_inputs, inputs, strict=False):
        value = values[str(name)]
        for position, axis in item.dynamic_axes.items() if isinstance(value, torch.Tensor) else ():
            size = value.shape[position]
            if is_concrete_int(size):
                fixed.setdefault(axis, int(size))
            elif isinstance(size, torch.SymInt):
                found = constraints.get(size.node.expr)
                if found is not None and found.upper < _UNBOUNDED:
                    bounds[axis] = min(int(found.upper), bounds.get(axis, _UNBOUNDED))
    return fixed, bounds
