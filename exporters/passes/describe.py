"""What the artifact says of itself, read off the finished graph and stamped into it.

Needs: a graph that kept the contract, and its output axes. Guarantees: one metadata property that
`seqport.runtime` reads, and named axes on every input and output.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from seqport.exporters.capture import Capture
from seqport.exporters.digest import weights_sha256
from seqport.exporters.passes.job import Job
from seqport.exporters.passes.probe import TOLERANCE, Measured
from seqport.exporters.passes.ragged import proven
from seqport.exporters.passes.roles import data_sources, lengths_source, native_nodes, time_axis, upstream, walk_up
from seqport.exporters.signature import Input
from seqport.runtime.artifact import METADATA_KEY, Description, RecurrentInfo, SequenceInfo, StateInfo, TensorInfo

_PASSING = frozenset(
    {"Identity", "Concat", "Squeeze", "Unsqueeze", "Reshape", "Slice", "Gather", "Where", "Cast", "Transpose"}
)
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


def stamp(job: Job, measured: Measured, seqport_version: str) -> None:
    """Write the description into the model's metadata."""
    capture = job.capture
    axes: Axes = {found.name: found.axes for found in measured.outputs}
    sequences = sequences_of(job, axes)
    batch_axis = sequences[0].batch_axis if sequences else next(iter(capture.inputs[0].axes), None)
    sequences, independent = proven(job, sequences, measured, batch_axis)
    job.description = Description(
        inputs=tuple(TensorInfo(item.name, item.dtype, item.axes) for item in capture.inputs),
        outputs=measured.outputs,
        sequences=sequences,
        rows_independent=independent,
        states=_states(job, axes),
        recurrent=_recurrent(job),
        convention=capture.convention,
        opset=job.opset,
        source={**capture.source, "seqport": seqport_version},
        weights_sha256=weights_sha256(job.model),
        breaks=tuple(str(refusal) for refusal in job.refusals),
        notes=tuple(capture.notes),
        limits=dict(measured.limits),
        proof=_proof(measured),
        precision=job.precision,
        zeros_and_ones=tuple(item.name for item in capture.inputs if item.name in job.zeros_and_ones),
        not_negative=tuple(item.name for item in capture.inputs if item.name in job.not_negative),
        hides_undefined=job.hides_undefined,
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


def _recurrent(job: Job) -> tuple[RecurrentInfo, ...]:
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
                lengths=lengths_source(node, job.capture.inputs),
                padded_outputs=job.padded_outputs.get(layer, "zero"),
            )
        )
    return tuple(found)


def sequences_of(job: Job, axes: Axes) -> tuple[SequenceInfo, ...]:
    """One entry for each input of lengths, and one for each axis that the model masks by its data."""
    by_name = {item.name: item for item in job.capture.inputs}
    found: dict[str | int, SequenceInfo] = {}
    for node in native_nodes(job.model):
        lengths = lengths_source(node, job.capture.inputs)
        data = data_sources(node, job.capture.inputs)
        if lengths is None or not data:
            continue
        lengths_input = None if lengths == "mask" else lengths
        batch = by_name[lengths_input or data[0]].axes[0]
        axis = by_name[data[0]].axes[time_axis(by_name[data[0]], batch)]
        key = lengths_input or axis
        # An axis that some layer has lengths for is described by them, even if another layer masks it.
        if key not in found and axis not in {sequence.axis for sequence in found.values()}:
            found[key] = _sequence(lengths_input, by_name[data[0]], batch, job.capture, axes)
    return tuple(found.values())


def _sequence(lengths: str | None, data: Input, batch: str | int, capture: Capture, axes: Axes) -> SequenceInfo:
    position = time_axis(data, batch)
    axis = data.axes[position]
    inputs = {data.name: position}
    outputs: dict[str, int] = {}
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
    return SequenceInfo(axis, batch, lengths, inputs, outputs, value)


def _states(job: Job, axes: Axes) -> tuple[StateInfo, ...]:
    """Inputs that reach an initial state, paired with the outputs that a final state of the same node reaches."""
    pairs: dict[str, StateInfo] = {}
    for node in native_nodes(job.model):
        for place, output in ((5, 1), (6, 2)):
            if place >= len(node.inputs) or node.inputs[place] is None or output >= len(node.outputs):
                continue
            sources = [i for i in job.capture.inputs if i.name in upstream(node.inputs[place])]  # type: ignore[arg-type]
            reached = [
                v.name for v in job.model.graph.outputs if node.outputs[output] in _behind(v) and v.name is not None
            ]
            for item in sources:
                for name in reached:
                    if tuple(axes[name]) == item.axes and item.name not in pairs:
                        pairs[item.name] = StateInfo(item.name, name)
    return tuple(pairs.values())


def _behind(value: ir.Value) -> set[ir.Value]:
    """Values that a state passes through on its way out: reshapes, joins, choices, no arithmetic."""
    return walk_up(value, lambda node: node.inputs if node.op_type in _PASSING else ())
