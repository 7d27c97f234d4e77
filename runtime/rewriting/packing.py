"""Recurrent layers skip the padding: rows sorted by length, time cut into pieces, each for the rows still alive.

Needs: opset 17 or later, recurrent nodes with `sequence_lens` and constant float32 weights in the main graph.
Guarantees: the same outputs (of LSTM and GRU in their native form, to the last bit), zeros at padded steps, one node a
direction and so one copy of the weights. A row of no steps keeps its initial state, which the native node loses. Linear
layers and other work step by step behind them are computed for valid steps alone. Nodes of another form stay.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper

from seqport.runtime.rewriting.candidates import Candidate, FormOf, candidates_of, fed_by, stacks_of
from seqport.runtime.rewriting.emit import Emitter, Names
from seqport.runtime.rewriting.forms import native_form
from seqport.runtime.rewriting.fronts import LookedUp, extents_elsewhere, front_of
from seqport.runtime.rewriting.lengths import counting, input_behind
from seqport.runtime.rewriting.native import Native
from seqport.runtime.rewriting.pieces import Pieces, plan
from seqport.runtime.rewriting.rowwise import Layout, Step, steps_behind
from seqport.runtime.rewriting.sources import Padded, Source, Valid
from seqport.runtime.rewriting.stacks import Answers, Layer, emit_stack
from seqport.runtime.rewriting.unpack import spread, unpacked, valid_steps
from seqport.runtime.rewriting.view import View, reads, replace_nodes

OPSETS = range(17, 24)

# The layers that share one plan, with the sizes of what they take → Δ, or the name of a graph input to add for it
Increment = Callable[[Sequence[tuple[Native, int]]], float | str]


@dataclass(frozen=True)
class Plan:
    """Layers that are packed by the same lengths.

    Attributes:
        lengths: the graph's input that holds them, cast or not; "" where they are computed.
        counting: where they are computed, a model that does no more than that; empty where that is much work.
        layers: with the size of what each takes.
    """

    lengths: str
    counting: bytes
    layers: tuple[tuple[Native, int], ...]


@dataclass
class _Job:
    view: View
    emit: Emitter
    increment: Increment
    plans: dict[tuple[str, str], Pieces] = field(default_factory=dict)  # by lengths, and what is padded to them
    sharing: dict[str, list[Candidate]] = field(default_factory=dict)  # by the name of the lengths
    packed: dict[tuple[str, str], tuple[Source, Pieces]] = field(default_factory=dict)  # lengths, a value → unpadded
    steps: dict[str, list[Step]] = field(default_factory=dict)  # by lengths: what is still to be computed step by step
    valid: dict[int, dict[str, str]] = field(default_factory=dict)  # by the plan's id: a value → its valid steps
    gone: list[NodeProto] = field(default_factory=list)


def pack(
    model: ModelProto,
    folder: Path,
    increment: Increment,
    form_of: FormOf = native_form,
) -> list[Plan]:
    """Pack every layer of a model that can be, in place.

    Args:
        model: the model.
        folder: where its external data are.
        increment: the layers that share one plan → Δ (see `pieces`).
        form_of: the form of one direction of a layer.

    Returns:
        What was packed; nothing where the model has no such layer.
    """
    opset = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 0)
    if opset not in OPSETS:
        return []
    view = View(model, folder)
    emit = Emitter(Names(model.graph), "seqport/packed")
    candidates = candidates_of(view, emit, form_of)
    job = _Job(view, emit, increment)
    for one in candidates:
        job.sharing.setdefault(one.lengths, []).append(one)
    for name, several in job.sharing.items():
        job.steps[name] = _steps_behind(view, several)
    plans = [_plan(view, model, name, several) for name, several in job.sharing.items()]
    for stack in stacks_of(view, candidates):
        _emit(job, stack)
    if not candidates or not replace_nodes(model.graph, job.gone, emit.nodes):
        return []
    used = {name for node in model.graph.node for name in reads(node)}
    model.graph.initializer.extend(tensor for tensor in emit.initializers if tensor.name in used)
    return plans


def _plan(view: View, model: ModelProto, lengths: str, sharing: Sequence[Candidate]) -> Plan:
    given = input_behind(view, lengths)
    counted = b"" if given else counting(view, lengths, model)
    return Plan(given, counted, tuple((one.native, one.input_dim) for one in sharing))


def _steps_behind(view: View, sharing: Sequence[Candidate]) -> list[Step]:
    """What is worth computing step by step behind layers that share lengths."""
    joined = {one.link.joined: Layout(batch_major=False) for one in sharing if one.link.joined}
    turned = {one.link.batch_major: Layout(batch_major=True) for one in sharing if one.link.batch_major}
    wanted = {name for one in sharing for name in (one.native.x, fed_by(view, one.native))}
    return steps_behind(view, joined | turned, wanted)


def _emit(job: _Job, stack: Sequence[Candidate]) -> None:
    pieces, source = _begin(job, stack[0])
    layers = []
    for one, after in zip(stack, [*stack[1:], None], strict=True):
        own = [] if after is None else [after.native.node, *_turning(job.view, after.native)]
        finals = tuple(_is_needed(job.view, one.native.output(1 + s)) for s in range(one.native.states))
        layers.append(Layer(one.native, one.forms, _is_read(job.view, one, own), finals))
    for one, answers in zip(stack, emit_stack(job.emit, pieces, source, layers), strict=True):
        _give(job, pieces, one, answers)
        job.gone += [one.native.node, *one.link.between]
    _go_on(job, pieces, stack[0].lengths)


def _turning(view: View, native: Native) -> list[NodeProto]:
    """The Transpose in front of a layer, where nothing else reads it."""
    turned = view.producers.get(native.x)
    alone = turned is not None and fed_by(view, native) != native.x and not view.read_beside(native.x, [native.node])
    return [turned] if alone and turned is not None else []


def _is_read(view: View, one: Candidate, own: Sequence[NodeProto]) -> bool:
    """Whether anything reads a layer's outputs beside the nodes of its own stack."""
    values = [one.native.output(0), one.link.joined, one.link.batch_major]
    return any(value and view.read_beside(value, [*one.link.between, *own]) for value in values)


def _is_needed(view: View, name: str) -> bool:
    return bool(name) and view.read_beside(name, ())


def _begin(job: _Job, one: Candidate) -> tuple[Pieces, Source]:
    """The plan of a layer and where its inputs come from: what follows from a layer before it is not padded yet."""
    native = one.native
    fed = fed_by(job.view, native)
    before = job.packed.get((one.lengths, fed)) or job.packed.get((one.lengths, native.x))
    if before is not None:
        return before[1], before[0]
    # Another value may be padded to another number of steps, though its lengths are the same.
    pieces = job.plans.get((one.lengths, fed))
    batch_major = fed != native.x
    takers = [taker.native.node for several in job.sharing.values() for taker in several]
    front = front_of(job.view, fed, takers, batch_major=batch_major)
    if pieces is None:
        axis = int(batch_major)
        steps = job.emit.op("Shape", front.entry if front else fed, start=axis, end=axis + 1)
        increment = job.increment([(follower.native, follower.input_dim) for follower in job.sharing[one.lengths]])
        if isinstance(increment, str):
            job.view.graph.input.append(helper.make_tensor_value_info(increment, TensorProto.FLOAT, []))
        else:
            increment = job.emit.const(increment, np.float32)
        pieces = job.plans[one.lengths, fed] = plan(job.emit, one.lengths, steps, increment)
    cells = job.emit.op("Mul", pieces.steps, pieces.batch)
    if front is None:
        return pieces, Padded(job.emit.op("Reshape", fed, job.emit.shape(cells, one.input_dim)), batch_major)
    for asked, instead in extents_elsewhere(job.view, front):
        if not any(asked is node for node in job.gone):
            job.gone.append(asked)
            job.emit.nodes.append(instead)
    return pieces, LookedUp(Padded(job.emit.op("Reshape", front.entry, cells), batch_major), front)


def _give(job: _Job, pieces: Pieces, one: Candidate, answers: Answers) -> None:
    """What the node and the link behind it gave, under the same names; what nobody reads is dropped later."""
    native, emit, packed = one.native, job.emit, answers.packed
    for index, final in enumerate(answers.finals, 1):
        if final:
            emit.nodes.append(helper.make_node("Identity", [final], [native.output(index)]))
    if packed is None:
        return
    time_major = unpacked(emit, pieces, packed, batch_major=False)
    values = {one.link.joined: time_major}
    if one.link.batch_major:
        values[one.link.batch_major] = unpacked(emit, pieces, packed, batch_major=True)
    apart = emit.op("Reshape", time_major, emit.const([0, 0, native.num_directions, native.hidden]))
    values[native.output(0)] = emit.op("Transpose", apart, perm=[0, 2, 1, 3])
    valid = valid_steps(emit, pieces, packed) if job.steps[one.lengths] else ""
    for name, value in values.items():
        if name:
            emit.nodes.append(helper.make_node("Identity", [value], [name]))
            job.packed[one.lengths, name] = packed, pieces
    for name in (one.link.joined, one.link.batch_major):
        if name and valid:
            job.valid.setdefault(id(pieces), {})[name] = valid


def _go_on(job: _Job, pieces: Pieces, lengths: str) -> None:
    """Compute step by step what follows from what is there; for whoever reads it padded, it is that too."""
    valid, emit = job.valid.get(id(pieces), {}), job.emit
    for step in job.steps[lengths]:
        if all(name in valid for name in step.needs) and step.output not in valid:
            value = valid[step.output] = step.emit(emit, valid)
            padded = spread(emit, pieces, value, batch_major=step.layout.batch_major)
            emit.nodes.append(helper.make_node("Identity", [padded], [step.output]))
            job.gone.append(step.node)
            if step.layout.featured:
                job.packed[lengths, step.output] = Valid(emit.op("Squeeze", value, emit.const([0]))), pieces
