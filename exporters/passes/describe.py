"""What the artifact says of itself, read off the finished graph and stamped into it.

Needs: a graph that kept the contract, and its output axes. Guarantees: one metadata property that
`seqport.runtime` reads, and named axes on every input and output.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from seqport.exporters.capture import Capture
from seqport.exporters.digest import weights_sha256
from seqport.exporters.passes.job import Job
from seqport.exporters.passes.layers_seen import Layers
from seqport.exporters.passes.probe import TOLERANCE, Measured
from seqport.exporters.passes.ragged import proven
from seqport.exporters.passes.roles import data_sources, native_nodes
from seqport.exporters.passes.roles_found import Roles
from seqport.exporters.passes.tables import id_ranges
from seqport.exporters.signature import Input
from seqport.runtime.artifact import METADATA_KEY, Description, RecurrentInfo, SequenceInfo, TensorInfo

Axes = dict[str, tuple[str | int, ...]]


def declare_inputs(job: Job) -> None:
    """Give the graph's inputs the declared element types and axes."""
    for value, item in zip(job.model.graph.inputs, job.capture.inputs, strict=True):
        value.shape = ir.Shape(item.axes)
        value.dtype = _data_type(item.dtype)


def declare_outputs(job: Job, measured: Measured) -> None:
    """Give the graph's outputs the element types and axes that were measured."""
    for value, found in zip(job.model.graph.outputs, measured.outputs, strict=True):
        value.shape, value.dtype = ir.Shape(found.axes), _data_type(found.dtype)


def stamp(job: Job, measured: Measured, roles: Roles, seqport_version: str) -> None:
    """Write the description into the model's metadata."""
    capture = job.capture
    axes: Axes = {found.name: found.axes for found in measured.outputs}
    sequences, independent = proven(job, sequences_of(job, axes, roles), measured, roles.axes.batch)
    job.description = Description(
        inputs=tuple(TensorInfo(item.name, item.dtype, item.axes) for item in capture.inputs),
        outputs=measured.outputs,
        batch_axis=roles.axes.batch,
        steps_axis=roles.axes.steps,
        sequences=sequences,
        rows_independent=independent,
        states=roles.states,
        recurrent=_recurrent(job, roles),
        convention=capture.convention,
        opset=job.opset,
        source={**capture.source, "seqport": seqport_version},
        weights_sha256=weights_sha256(job.model),
        breaks=tuple(str(refusal) for refusal in job.refusals),
        notes=tuple(capture.notes),
        limits=dict(measured.limits),
        proof=_proof(measured),
        precision=job.precision,
        tables={**{name: (0, largest) for name, largest in job.largest.items()}, **id_ranges(job.model.graph)},
        zeros_and_ones=tuple(item.name for item in capture.inputs if item.name in job.zeros_and_ones),
        not_negative=tuple(item.name for item in capture.inputs if item.name in job.not_negative),
    )
    job.model.producer_name, job.model.producer_version = "seqport", seqport_version
    job.model.metadata_props[METADATA_KEY] = job.description.to_json()


def _proof(measured: Measured) -> dict[str, str]:
    """Where the artifact was compared with the model; nothing where the model took no drawn input."""
    shapes = [" ".join(f"{a}={n}" for a, n in run.sizes.items()) for run in measured.runs if run.expected is not None]
    if not shapes:
        return {}
    return {"tolerance": str(TOLERANCE), "compared": "; ".join(shapes), "values": "; ".join(measured.values)}


def _data_type(numpy_name: str) -> ir.DataType:
    return ir.DataType.from_numpy(np.dtype(numpy_name))


def _recurrent(job: Job, roles: Roles) -> tuple[RecurrentInfo, ...]:
    """Every native node that a layer of the model became; the lowering named it after its layer."""
    found = []
    for node in native_nodes(job.model):
        layer = (node.name or "").rsplit("/", 1)[0]
        found.append(
            RecurrentInfo(
                node=node.name or "",
                op=node.op_type,
                layer=layer,
                direction=node.attributes.get_string("direction", "forward"),
                num_hidden_units=node.attributes.get_int("hidden_size", 0),
                lengths=roles.lengths.nodes.get(node.name or "") or ("mask" if Layers.takes_lengths(node) else None),
                padded_outputs=job.padded_outputs.get(layer, "zero"),
            )
        )
    return tuple(found)


def sequences_of(job: Job, axes: Axes, roles: Roles) -> tuple[SequenceInfo, ...]:
    """One entry for each input of lengths, and one for each axis that the model masks by its data."""
    found: dict[str | int, SequenceInfo] = {}
    tables = id_ranges(job.model.graph)
    for node in native_nodes(job.model):
        data = data_sources(node, job.capture.inputs)
        if not Layers.takes_lengths(node) or not data:
            continue
        lengths = roles.lengths.nodes.get(node.name or "")
        place = _place_of(node, lengths, job, roles)
        if place is None:
            continue
        item, position, batch = place
        axis = item.axes[position]
        key = lengths or axis
        # An axis that some layer has lengths for is described by them, even if another layer masks it.
        if key not in found and axis not in {sequence.axis for sequence in found.values()}:
            fixed = roles.fixed_steps.get(lengths or "", {})
            found[key] = _sequence(lengths, item, position, batch, job.capture, axes, fixed, tables)
    return tuple(found.values())


def _place_of(node: ir.Node, lengths: str | None, job: Job, roles: Roles) -> tuple[Input, int, str | int] | None:
    """An input that a node's X is made of, the position of its steps there, and the batch axis."""
    by_name = {item.name: item for item in job.capture.inputs}
    data = [by_name[name] for name in data_sources(node, job.capture.inputs)]
    batch = by_name[lengths].axes[0] if lengths else roles.axes.batch
    steps = roles.lengths.axes[lengths] if lengths else roles.axes.nodes.get(node.name or "")
    for item in data:
        rows = _fixed(item, 0) if batch is None else batch
        if isinstance(steps, str):
            position = item.axes.index(steps) if steps in item.axes else None
        else:  # one that is fixed stands behind the rows, or before them
            position = next((place for place in (1, 0) if _fixed(item, place) and item.axes[place] != rows), None)
        if rows is not None and position is not None and steps in (None, item.axes[position]):
            return item, position, rows
    return None


def _fixed(item: Input, place: int) -> int | None:
    axis = item.axes[place]
    return axis if isinstance(axis, int) else None


def _sequence(
    lengths: str | None,
    data: Input,
    position: int,
    batch: str | int,
    capture: Capture,
    axes: Axes,
    fixed: Mapping[str, int],
    tables: Mapping[str, tuple[int, int]],
) -> SequenceInfo:
    axis = data.axes[position]
    inputs = {data.name: position}
    outputs = dict(fixed)
    if isinstance(axis, str):  # whatever else has the axis is padded along it too
        sharing = [i for i in capture.inputs if axis in i.axes and batch in i.axes and i.name != data.name]
        inputs |= {item.name: item.axes.index(axis) for item in sharing}
        # PyTorch cuts a padded output to max(lengths); the probe names such an axis after them.
        along = {axis, f"max_{lengths}"}
        outputs = {
            name: shape.index(next(a for a in shape if a in along))
            for name, shape in axes.items()
            if along.intersection(shape) and batch in shape
        }
    value = next((capture.padding_values[name] for name in inputs if name in capture.padding_values), 0.0)
    # A table that has no row 0 is looked up at padded steps too.
    value = max((float(low) for name, (low, _) in tables.items() if name in inputs and low > 0), default=value)
    return SequenceInfo(axis, batch, lengths, inputs, outputs, value)
