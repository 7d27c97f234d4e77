"""Puts seqport's own operators in the place of recurrent nodes: one a layer, whatever the lengths of its rows.

They take and give the layouts that the graph around them has, so that nothing is transposed for them. Between layers of
the same lengths, and to what is computed step by step behind them, go the valid steps alone; words are looked up for
those only. A row of no steps keeps its initial state, which ONNX Runtime's own nodes lose.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from onnx import ModelProto, NodeProto, helper

from seqport.runtime.kernels import DOMAIN
from seqport.runtime.kernels.panels import biases, panels
from seqport.runtime.rewriting.emit import Emitter, Names
from seqport.runtime.rewriting.fronts import extents_elsewhere, front_of
from seqport.runtime.rewriting.not_a_number import node_hides_nan
from seqport.runtime.rewriting.own_layers import CELLS, Machine, OwnLayer, own_layers
from seqport.runtime.rewriting.rowwise import Layout, Step, steps_behind
from seqport.runtime.rewriting.view import View, reads, replace_nodes

# enum layout of recurrent.c
_TIME_MAJOR, _BATCH_MAJOR, _VALID, _NODE = range(4)
# What may make something else of floats.
_OTHER_TYPES = frozenset(
    ("ArgMax", "ArgMin", "Cast", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Not", "Gather")
)


@dataclass
class _Batch:
    """Lengths, and the extents of what is padded to them."""

    lengths: str
    extents: str  # [B, T] or [T, B]
    rows_first: bool  # the first of these
    valid: dict[str, str] = field(default_factory=dict)  # a value → its valid steps, [1, N + 1, F]
    places: dict[bool, str] = field(default_factory=dict)
    floats: set[str] = field(default_factory=set)


@dataclass
class _Job:
    view: View
    emit: Emitter
    machine: Machine
    layers: list[OwnLayer]
    steps: dict[str, list[Step]]  # by lengths
    batches: dict[tuple[str, str], _Batch] = field(default_factory=dict)  # by lengths, and what is padded to them
    gone: list[NodeProto] = field(default_factory=list)


def use_own_operators(model: ModelProto, folder: Path, machine: Machine) -> list[str]:
    """Put the operators into a model, in place.

    Args:
        model: the model.
        folder: where its external data are.
        machine: what they are made for.

    Returns:
        The names of the nodes that were replaced; none, with the model as it was, where there are none, or one that
        takes lengths cannot be.
    """
    view = View(model, folder)
    layers = own_layers(model, view, machine)
    if not layers:
        return []
    sharing: dict[str, list[OwnLayer]] = {}
    for layer in layers:
        if layer.lengths:
            sharing.setdefault(layer.lengths, []).append(layer)
    steps = {lengths: _steps_behind(view, several) for lengths, several in sharing.items()}
    job = _Job(view, Emitter(Names(model.graph), "seqport"), machine, layers, steps)
    for layer in layers:
        _emit(job, layer)
    if not replace_nodes(model.graph, job.gone, job.emit.nodes):
        return []
    used = {name for node in model.graph.node for name in reads(node)}
    model.graph.initializer.extend(tensor for tensor in job.emit.initializers if tensor.name in used)
    model.opset_import.append(helper.make_opsetid(DOMAIN, 1))
    return [layer.native.node.name for layer in layers]


def _steps_behind(view: View, sharing: Sequence[OwnLayer]) -> list[Step]:
    """What is worth computing step by step behind layers that share lengths."""
    joined = {layer.link.joined: Layout(batch_major=False) for layer in sharing if layer.link.joined}
    turned = {layer.link.batch_major: Layout(batch_major=True) for layer in sharing if layer.link.batch_major}
    return steps_behind(view, joined | turned, {name for layer in sharing for name in (layer.native.x, layer.fed)})


def _emit(job: _Job, layer: OwnLayer) -> None:
    native, emit = layer.native, job.emit
    batch, x, x_layout = _input(job, layer) if layer.lengths else (None, layer.fed, int(layer.batch_major))
    y, y_layout = _output(job, layer, batch)
    finals = [name if _is_needed(job.view, name) else "" for name in (native.output(1), native.output(2))]
    gives = sum(1 << place for place, name in enumerate((y, *finals)) if name)
    if gives:
        initial = [*native.initial, ""][:2]
        extents = batch.extents if batch and x_layout == _VALID and y_layout != _VALID else ""
        inputs = [x, layer.lengths, *_weights(emit, layer), *initial, extents]
        while not inputs[-1]:
            inputs.pop()
        node = helper.make_node(
            "Recurrent",
            inputs,
            [y, *finals],
            native.node.name,
            domain=DOMAIN,
            cell=CELLS.index(layer.cell),
            input_dim=layer.weights[0].shape[2],
            hidden_size=native.hidden,
            directions=native.num_directions,
            reversed=sum(1 << d for d, its in enumerate(native.reversed) if its),
            x_layout=x_layout,
            y_layout=y_layout,
            gives=gives,
            rows_first=int(batch is not None and batch.rows_first),
            threads=job.machine.threads,
            vectors=job.machine.vectors,
            keeps=int(job.machine.keeps),
            lists=int(job.machine.lists),
            hides_nan=int(job.machine.hides_nan and node_hides_nan(native)),
        )
        emit.nodes.append(node)
    job.gone += [native.node, *layer.link.between]
    if batch:
        _go_on(job, batch)


def _weights(emit: Emitter, layer: OwnLayer) -> list[str]:
    """W, R and B in panels, all directions of each."""
    hidden, name = layer.native.hidden, layer.native.node.name
    W, R, B = layer.weights[:3]
    apart = layer.cell == "GRU reset after"
    return [
        emit.weight(np.stack([panels(one, hidden) for one in W]), f"{name}.W"),
        emit.weight(np.stack([panels(one, hidden) for one in R]), f"{name}.R"),
        emit.weight(np.stack([biases(one, hidden, apart=apart) for one in B]), f"{name}.B"),
    ]


def _input(job: _Job, layer: OwnLayer) -> tuple[_Batch, str, int]:
    """The batch of a layer with lengths, what it takes, and the layout of that."""
    for batch in job.batches.values():
        for name in (layer.fed, layer.native.x):
            if batch.lengths == layer.lengths and name in batch.valid:
                return batch, batch.valid[name], _VALID
    takers = [other.native.node for other in job.layers]
    front = front_of(job.view, layer.fed, takers, batch_major=layer.batch_major)
    batch = job.batches.get((layer.lengths, layer.fed))
    emit = job.emit
    if batch is None:
        extents = emit.op("Shape", front.entry if front else layer.fed, start=0, end=2)
        batch = job.batches[layer.lengths, layer.fed] = _Batch(layer.lengths, extents, layer.batch_major)
    if front is None:
        return batch, layer.fed, int(layer.batch_major)
    place = _places(job, batch, batch_major=layer.batch_major, of_valid=1)
    numbers = emit.op("Gather", emit.op("Reshape", front.entry, emit.const([1, -1])), place, axis=1)
    values = {front.entry: numbers}
    for step in front.steps:
        values[step.output] = step.emit(emit, values)
    batch.valid[layer.fed] = values[layer.fed]
    for asked, instead in extents_elsewhere(job.view, front):
        job.gone.append(asked)
        emit.nodes.append(instead)
    return batch, values[layer.fed], _VALID


def _output(job: _Job, layer: OwnLayer, batch: _Batch | None) -> tuple[str, int]:
    """The name and the layout of what a layer gives at each step; no name where nobody reads it."""
    native, link, view, emit = layer.native, layer.link, job.view, job.emit
    names = {link.joined: _TIME_MAJOR, link.batch_major: _BATCH_MAJOR, native.output(0): _NODE}
    names.pop("", None)
    read = [name for name in names if view.read_beside(name, link.between)]
    if not read:
        return "", _NODE
    if batch and _is_taken_valid(job, layer):
        y = emit.name("valid")
        for name in (link.joined, link.batch_major):
            if name:
                batch.valid[name] = y
                batch.floats.add(y)
                _spread(job, batch, y, name, batch_major=name == link.batch_major)
        _node_layout(job, layer, link.joined)
        return y, _VALID
    if len(read) == 1:
        return read[0], names[read[0]]
    if link.batch_major:
        emit.nodes.append(helper.make_node("Transpose", [link.joined], [link.batch_major], perm=[1, 0, 2]))
    _node_layout(job, layer, link.joined)
    return link.joined, _TIME_MAJOR


def _node_layout(job: _Job, layer: OwnLayer, joined: str) -> None:
    """Y as ONNX has it, of [T, B, D · H]; it is dropped where nobody reads it."""
    native, emit = layer.native, job.emit
    apart = emit.op("Reshape", joined, emit.const([0, 0, native.num_directions, native.hidden]))
    emit.nodes.append(helper.make_node("Transpose", [apart], [native.output(0)], perm=[0, 2, 1, 3]))


def _is_taken_valid(job: _Job, layer: OwnLayer) -> bool:
    """Whether something takes the valid steps of a layer's outputs."""
    given = {layer.link.joined, layer.link.batch_major} - {""}
    if any(given.intersection(step.needs) for step in job.steps[layer.lengths]):
        return True
    others = [other for other in job.layers if other.lengths == layer.lengths]
    return any(other.fed in given or other.native.x in given for other in others)


def _go_on(job: _Job, batch: _Batch) -> None:
    """Compute step by step what follows from what is there; for whoever reads it padded, it is that too."""
    for step in job.steps[batch.lengths]:
        if all(name in batch.valid for name in step.needs) and step.output not in batch.valid:
            value = batch.valid[step.output] = step.emit(job.emit, batch.valid)
            if step.node.op_type not in _OTHER_TYPES and all(batch.valid[n] in batch.floats for n in step.needs):
                batch.floats.add(value)
            layout = step.layout
            as_floats = value in batch.floats and layout.featured
            _spread(job, batch, value, step.output, batch_major=layout.batch_major, as_floats=as_floats)
            job.gone.append(step.node)


def _spread(job: _Job, batch: _Batch, value: str, name: str, *, batch_major: bool, as_floats: bool = True) -> None:
    """Give valid steps their places in the padded batch; it is dropped where nobody reads it."""
    emit = job.emit
    if as_floats:
        node = helper.make_node(
            "Spread",
            [value, batch.lengths, batch.extents],
            [name],
            domain=DOMAIN,
            batch_major=int(batch_major),
            of_valid=0,
            rows_first=int(batch.rows_first),
            lists=int(job.machine.lists),
        )
        emit.nodes.append(node)
        return
    if batch_major not in batch.places:
        batch.places[batch_major] = _places(job, batch, batch_major=batch_major, of_valid=0)
    placed = emit.op("Gather", value, batch.places[batch_major], axis=1)
    emit.nodes.append(helper.make_node("Squeeze", [placed, emit.const([0])], [name]))


def _places(job: _Job, batch: _Batch, *, batch_major: bool, of_valid: int) -> str:
    """Of the valid steps in the padded batch, or of every step of that among those."""
    return job.emit.op(
        "Places",
        batch.lengths,
        batch.extents,
        domain=DOMAIN,
        batch_major=int(batch_major),
        of_valid=of_valid,
        rows_first=int(batch.rows_first),
        lists=int(job.machine.lists),
    )


def _is_needed(view: View, name: str) -> bool:
    return bool(name) and view.read_beside(name, ())
