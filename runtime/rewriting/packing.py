"""Recurrent layers skip the padding: rows sorted by length, time cut into pieces, each for the rows still alive.

Needs: opset 17 or later, recurrent nodes with `sequence_lens` and constant float32 weights in the main graph.
Guarantees: the same outputs (of LSTM and GRU in their native form, to the last bit), zeros at padded steps, one node a
direction and so one copy of the weights. A row of no steps keeps its initial state, which the native node loses. Nodes
of another form stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper

from seqport.runtime.rewriting.emit import Emitter, Names
from seqport.runtime.rewriting.forms import Form, native_form
from seqport.runtime.rewriting.links import Link, link_behind, permutation
from seqport.runtime.rewriting.native import Native
from seqport.runtime.rewriting.pieces import Pieces, plan
from seqport.runtime.rewriting.sources import Packed, Padded
from seqport.runtime.rewriting.stacks import Answers, Layer, emit_stack
from seqport.runtime.rewriting.unpack import unpacked
from seqport.runtime.rewriting.view import View, reads, replace_nodes

OPSETS = range(17, 24)
_TURNED = [1, 0, 2]  # time first to batch first, and back

# The layers that share one plan, with the sizes of what they take → Δ, or the name of a graph input to add for it
Increment = Callable[[Sequence[tuple[Native, int]]], float | str]
# A layer, which of its directions, its weights, where they go → the form of that direction
FormOf = Callable[[Native, int, Sequence[np.ndarray], Emitter], Form | None]


@dataclass(frozen=True)
class _Candidate:
    """A layer that can be packed, and what stands behind it."""

    native: Native
    forms: tuple[Form, ...]
    input_dim: int
    link: Link


@dataclass(frozen=True)
class Plan:
    """Layers that are packed by the same lengths.

    Attributes:
        lengths: the graph's input that holds them, cast or not; "" where they are computed.
        layers: with the size of what each takes.
    """

    lengths: str
    layers: tuple[tuple[Native, int], ...]


@dataclass
class _Job:
    view: View
    emit: Emitter
    increment: Increment
    plans: dict[tuple[str, str], Pieces] = field(default_factory=dict)  # by lengths, and what is padded to them
    sharing: dict[str, list[_Candidate]] = field(default_factory=dict)  # by the name of the lengths
    packed: dict[tuple[str, str], tuple[Packed, Pieces]] = field(default_factory=dict)  # lengths, a value → in blocks
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
    found = [_candidate(view, emit, node, form_of) for node in model.graph.node]
    candidates = [one for one in found if one is not None]
    job = _Job(view, emit, increment)
    for one in candidates:
        job.sharing.setdefault(one.native.lengths, []).append(one)
    for stack in _stacks(view, candidates):
        _emit(job, stack)
    if not candidates or not replace_nodes(model.graph, job.gone, emit.nodes):
        return []
    used = {name for node in model.graph.node for name in reads(node)}
    model.graph.initializer.extend(tensor for tensor in emit.initializers if tensor.name in used)
    return [
        Plan(_input_behind(view, lengths), tuple((one.native, one.input_dim) for one in several))
        for lengths, several in job.sharing.items()
    ]


def _input_behind(view: View, lengths: str) -> str:
    """The graph's input that holds lengths: cast, or clipped to the steps that there are."""
    node = view.producers.get(lengths)
    while node is not None and node.op_type in ("Cast", "Identity", "Min", "Max"):
        lengths = node.input[0]
        node = view.producers.get(lengths)
    return lengths if node is None and view.constant(lengths) is None else ""


def _candidate(view: View, emit: Emitter, node: NodeProto, form_of: FormOf) -> _Candidate | None:
    native = Native.of(node)
    if native is None or not native.lengths:
        return None
    weights = native.weights(view.constant)
    if weights is None:
        return None
    forms = [form_of(native, direction, weights, emit) for direction in range(native.num_directions)]
    if any(form is None for form in forms):
        return None
    return _Candidate(native, tuple(forms), weights[0].shape[2], link_behind(view, native))  # type: ignore[arg-type]


def _stacks(view: View, candidates: Sequence[_Candidate]) -> list[list[_Candidate]]:
    """Layers of one direction that feed each other share a Scan; every other one has its own."""
    followers = {_fed_by(view, one.native): one for one in reversed(candidates)}
    placed: set[int] = set()
    stacks = []
    for first in candidates:
        stack = [first]
        while id(first) not in placed:
            last = stack[-1]
            values = (last.link.joined, last.link.batch_major)
            after = next((followers[value] for value in values if value and value in followers), None)
            if after is None or id(after) in placed or not _may_follow(view, stack, after):
                break
            stack.append(after)
        if id(first) not in placed:
            placed |= {id(one) for one in stack}
            stacks.append(stack)
    return stacks


def _may_follow(view: View, stack: Sequence[_Candidate], after: _Candidate) -> bool:
    last = stack[-1].native
    return (
        last.num_directions == 1
        and after.native.reversed == last.reversed
        and after.native.lengths == last.lengths
        and not view.depends([name for name in after.native.initial if name], [one.native.node for one in stack])
    )


def _fed_by(view: View, native: Native) -> str:
    """The value that a layer takes: in front of the Transpose that puts time first, where there is one."""
    turned = view.producers.get(native.x)
    if turned is not None and turned.op_type == "Transpose" and permutation(turned) == _TURNED:
        return turned.input[0]
    return native.x


def _emit(job: _Job, stack: Sequence[_Candidate]) -> None:
    pieces, source = _begin(job, stack[0])
    layers = []
    for one, after in zip(stack, [*stack[1:], None], strict=True):
        own = [] if after is None else [after.native.node, *_turning(job.view, after.native)]
        finals = tuple(_is_needed(job.view, one.native.output(1 + s)) for s in range(one.native.states))
        layers.append(Layer(one.native, one.forms, _is_read(job.view, one, own), finals))
    for one, answers in zip(stack, emit_stack(job.emit, pieces, source, layers), strict=True):
        _give(job, pieces, one, answers)
        job.gone += [one.native.node, *one.link.between]


def _turning(view: View, native: Native) -> list[NodeProto]:
    """The Transpose in front of a layer, where nothing else reads it."""
    turned = view.producers.get(native.x)
    alone = turned is not None and _fed_by(view, native) != native.x and not view.read_beside(native.x, [native.node])
    return [turned] if alone and turned is not None else []


def _is_read(view: View, one: _Candidate, own: Sequence[NodeProto]) -> bool:
    """Whether anything reads a layer's outputs beside the nodes of its own stack."""
    values = [one.native.output(0), one.link.joined, one.link.batch_major]
    return any(value and view.read_beside(value, [*one.link.between, *own]) for value in values)


def _is_needed(view: View, name: str) -> bool:
    return bool(name) and view.read_beside(name, ())


def _begin(job: _Job, one: _Candidate) -> tuple[Pieces, Padded | Packed]:
    """The plan of a layer and where its inputs come from: still in the blocks of a layer before it, or padded."""
    native = one.native
    fed = _fed_by(job.view, native)
    before = job.packed.get((native.lengths, fed)) or job.packed.get((native.lengths, native.x))
    if before is not None:
        return before[1], before[0]
    # Another value may be padded to another number of steps, though its lengths are the same.
    pieces = job.plans.get((native.lengths, fed))
    if pieces is None:
        axis = int(fed != native.x)
        steps = job.emit.op("Shape", fed, start=axis, end=axis + 1)
        increment = job.increment([(follower.native, follower.input_dim) for follower in job.sharing[native.lengths]])
        if isinstance(increment, str):
            job.view.graph.input.append(helper.make_tensor_value_info(increment, TensorProto.FLOAT, []))
        else:
            increment = job.emit.const(increment, np.float32)
        pieces = job.plans[native.lengths, fed] = plan(job.emit, native.lengths, steps, increment)
    cells = job.emit.op("Mul", pieces.steps, pieces.batch)
    flat = job.emit.op("Reshape", fed, job.emit.shape(cells, one.input_dim))
    return pieces, Padded(flat, batch_major=fed != native.x)


def _give(job: _Job, pieces: Pieces, one: _Candidate, answers: Answers) -> None:
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
    for name, value in values.items():
        if name:
            emit.nodes.append(helper.make_node("Identity", [value], [name]))
            job.packed[native.lengths, name] = packed, pieces
