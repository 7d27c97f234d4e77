"""A module, traced by torch.export with its recurrent layers whole and its declared axes dynamic."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.fx.experimental.symbolic_shapes import is_concrete_int

from seqport.exporters.arrangement import Arrangement
from seqport.exporters.comparisons import Condition, longest_of
from seqport.exporters.errors import ExportError, RefusedError
from seqport.exporters.frontends.pytorch.arguments import arrangements
from seqport.exporters.frontends.pytorch.datasizes import DataSizes
from seqport.exporters.frontends.pytorch.flat import Flat
from seqport.exporters.frontends.pytorch.guards import conditions_of, require_unbounded, traced_symbols, unsolved_steps
from seqport.exporters.frontends.pytorch.loops import may_loop
from seqport.exporters.frontends.pytorch.patches import recurrent_layers_whole
from seqport.exporters.frontends.pytorch.reasons import explained
from seqport.exporters.frontends.pytorch.sizes import axis_sizes, longest_lengths
from seqport.exporters.frontends.pytorch.swapped import swapped_inputs
from seqport.exporters.signature import Input

# A size that no input reaches; torch.export writes infinity as something larger.
_UNBOUNDED = 2**31


class _Way(NamedTuple):
    """One way to trace; each further one changes more of what Python and PyTorch do, for what the last refused."""

    symbolic_int: bool  # int, len and range of sizes stay symbolic
    sizes_as_inputs: bool = False  # sizes that depend on values are traced as sizes of inputs
    sizes_as_numbers: bool = False  # sizes that depend on values are traced as numbers
    unrolled_range: bool = False  # range of sizes does not stay symbolic, because it runs a loop


_WAYS = (_Way(False), _Way(True), _Way(True, sizes_as_inputs=True))
# Of loops up to the longest length.
_UNTIL = (_Way(True, sizes_as_numbers=True, unrolled_range=True), _Way(True, sizes_as_numbers=True))


@dataclass(frozen=True)
class Program:
    """A traced module.

    Attributes:
        exported: what torch.export gave; its inputs and outputs end with those of the sizes that depend on values.
        arrangement: how the module's forward took its inputs.
        outputs: the names of its outputs, from its structure.
        fixed: declared dynamic axes that the trace made constants: axis → the traced size.
        bounds: declared dynamic axes for which the trace holds up to a size: axis → that size.
        loops: declared dynamic axes that a number of steps follows from, though they are no constants.
        conditions: what the trace took for granted of sizes.
        sizes: the traced size of every dynamic axis.
        told: traced numbers of steps that values tell, in the order of the outputs that tell them.
    """

    exported: torch.export.ExportedProgram
    arrangement: Arrangement
    outputs: list[str]
    fixed: dict[str, int]
    bounds: dict[str, int]
    loops: frozenset[str]
    conditions: tuple[Condition, ...]
    sizes: dict[str, int]
    told: tuple[int, ...]

    @property
    def unrolled(self) -> bool:
        """Whether the program holds for the traced size of some axis alone, as a loop over it does."""
        return bool(self.fixed or self.loops or self.told)


def traced(model: nn.Module, arrangement: Arrangement) -> Program:
    """Trace a module; one whose loops unroll, at few steps.

    Raises:
        InputsError: forward takes other inputs, or returns what is no tensor.
        RefusedError: a recurrent layer is used in a way that has no native form, or a loop takes so many steps at most.
        ExportError: PyTorch cannot trace the module.
    """
    found: dict[bool, Program] = {}
    failure: ExportError | None = None
    guess = may_loop(model)
    for few in (guess, not guess):
        try:
            program = found[few] = _best(model, arrangement, few=few)
        except RefusedError as error:
            if found:
                raise
            failure = error
            break
        except ExportError as error:
            failure = failure or error
            continue
        if not program.unrolled:
            return program
        # An operator may fix a size as well (a pooling does); then nothing was unrolled over it.
        if few and program.fixed and not _is_one_size(program, _best(model, arrangement, few=True, skip=1)):
            break
    if not found:
        assert failure is not None
        try:
            return _unrolled(model, arrangement, _best(model, arrangement, few=True, ways=_UNTIL))
        except ExportError:
            raise failure from failure.__cause__
    if len(found) == 2 and not found[False].fixed and _is_one_size(*found.values()):
        return found[False]  # what follows from a size is no number of steps
    return _unrolled(model, arrangement, found[True]) if True in found else found[False]


def traced_elsewhere(model: nn.Module, like: Program) -> Program:
    """Trace a module whose loops unroll once more, with other sizes of the axes.

    Raises:
        ExportError: PyTorch cannot trace the module there.
    """
    ways = _UNTIL if like.told else _WAYS
    program = _best(model, like.arrangement, few=True, skip=1, ways=ways)
    return _unrolled(model, like.arrangement, program, skip=1)


def _is_one_size(one: Program, other: Program) -> bool:
    """Whether traces at different sizes have as many operations: then no loop was unrolled."""
    return len(one.exported.graph.nodes) == len(other.exported.graph.nodes)


def _unrolled(model: nn.Module, arrangement: Arrangement, program: Program, skip: int = 0) -> Program:
    """The trace at few steps with every size known that a number of steps follows from (half as many as an axis has).

    Raises:
        RefusedError: a loop takes so many steps at most.
    """
    static: set[str] = set()
    while True:
        require_unbounded(program.exported, _symbols(program.exported, program.sizes))
        if program.loops <= static:
            return program
        static |= program.loops
        ways = _UNTIL if program.told else _WAYS
        program = _best(model, arrangement, few=True, skip=skip, static=static, ways=ways)


def _best(
    model: nn.Module,
    arrangement: Arrangement,
    *,
    few: bool,
    skip: int = 0,
    static: Collection[str] = (),
    ways: Sequence[_Way] = _WAYS,
) -> Program:
    """The trace of the first way that fixes no axis, else of the first way that traces."""
    failure: Exception | None = None
    unrolled: Program | None = None
    candidate = arrangement
    for candidate in arrangements(model, arrangement):
        for way in ways:
            if way.sizes_as_inputs and (few or unrolled is not None):
                break
            numbers = longest_lengths(model, arrangement.inputs, skip) if way.sizes_as_numbers else []
            sizes = axis_sizes(model, arrangement.inputs, few=few, skip=skip, longer=bool(numbers))
            try:
                program = _traced(model, candidate, way, sizes, static, few=few, numbers=numbers)
            except Exception as error:
                failure = failure or error
                continue
            if not program.unrolled:
                return program
            unrolled = unrolled or program
        if unrolled is not None:
            return unrolled
    assert failure is not None
    sizes = axis_sizes(model, arrangement.inputs, few=True, skip=skip, longer=False)
    said = swapped_inputs(model, candidate, sizes, device_of(model)) or explained(failure, arrangement.inputs)
    raise said from (failure if said is not failure else failure.__cause__)  # no error is its own cause


def _traced(
    model: nn.Module,
    arrangement: Arrangement,
    way: _Way,
    sizes: Mapping[str, int],
    static: Collection[str],
    *,
    few: bool,
    numbers: Sequence[int],
) -> Program:
    inputs = arrangement.inputs
    example = [
        torch.zeros(i.shape(dict(sizes)), dtype=getattr(torch, i.dtype), device=device_of(model)) for i in inputs
    ]
    data_sizes = DataSizes(as_inputs=way.sizes_as_inputs, unrolling=few, numbers=numbers)
    added = data_sizes.examples()
    kinds = {name: torch.export.Dim.STATIC if name in static else torch.export.Dim.AUTO for name in sizes}
    shapes = [{at: kinds[name] for at, name in item.dynamic_axes.items()} for item in inputs]
    flat = Flat(model, arrangement, data_sizes)
    symbolic = {"symbolic_int": way.symbolic_int, "symbolic_range": way.symbolic_int and not way.unrolled_range}
    with recurrent_layers_whole(model, data_sizes, **symbolic):
        exported = torch.export.export(
            flat,
            (*example, *added),
            dynamic_shapes=((*shapes, *({0: torch.export.Dim.AUTO} for _ in added)),),
            strict=False,
        )
    _require_open(exported, len(inputs))
    symbols = _symbols(exported, sizes)
    loops = frozenset(symbols[symbol] for symbol in unsolved_steps(exported) if symbol in symbols)
    longest = {size: longest_of(f"lengths {i}") for i, size in enumerate(data_sizes.traced())}
    known = {symbol: longest[size] for symbol, size in traced_symbols(exported).items() if size in longest} | symbols
    conditions = tuple(conditions_of(exported, known))
    fixed, bounds = _axes(exported, inputs)
    told = tuple(data_sizes.taken())
    return Program(exported, arrangement, flat.output_names, fixed, bounds, loops, conditions, dict(sizes), told)


def _require_open(exported: torch.export.ExportedProgram, count: int) -> None:
    """Refuse a trace that made a constant of a size that was an input: a loop up to it was unrolled.

    Raises:
        ExportError: it did.
    """
    values = {node.name: node.meta.get("val") for node in exported.graph.nodes if node.op == "placeholder"}
    for name in list(exported.graph_signature.user_inputs)[count:]:
        value = values[str(name)]
        if isinstance(value, torch.Tensor) and is_concrete_int(value.shape[0]):
            raise ExportError("a size that depends on values became a constant while it was traced")


def _symbols(exported: torch.export.ExportedProgram, sizes: Mapping[str, int]) -> dict[Any, str]:
    """The axis behind each of the tracer's symbols, known by its size."""
    names = {size: name for name, size in sizes.items()}
    return {symbol: names[size] for symbol, size in traced_symbols(exported).items() if size in names}


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
