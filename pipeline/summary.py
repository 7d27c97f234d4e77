"""What an artifact says of itself, in words."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from seqport.exporters.examine import Findings
from seqport.runtime import Description, PrecisionInfo, RecurrentInfo, SequenceInfo, TensorInfo


def describe_lines(path: Path, found: Findings) -> Iterator[str]:
    """The lines of `seqport inspect`, for any ONNX file; what only seqport writes is left out where it is missing."""
    description = found.description
    framework = "an unknown exporter" if description is None else description.source.get("framework", "?")
    yield f"{path}: from {framework}, opset {found.opset}, {path.stat().st_size / 1000:.0f} kB"
    yield from (f"weights in {place}, {size / 1000:.0f} kB" for place, size in found.beside.items())
    yield "inputs"
    yield from map(_tensor, found.inputs)
    yield "outputs"
    yield from map(_tensor, found.outputs)
    yield "recurrent nodes" if found.recurrent else "no recurrent nodes"
    yield from map(_recurrent, found.recurrent if description is None else description.recurrent)
    if description is not None:
        yield from _own_words(description)
    yield from (f"CUDA leaves to the CPU: {reason}" for reason in found.cuda)
    yield from (f"breaks the contract: {reason}" for reason in found.breaks)
    yield from (f"breaks the contract, as exported: {reason}" for reason in (description.breaks if description else ()))


def _own_words(description: Description) -> Iterator[str]:
    versions = ", ".join(f"{name} {version}" for name, version in description.source.items() if name != "framework")
    if description.batch_axis is not None:
        along = f", steps along {description.steps_axis}" if description.steps_axis is not None else ""
        yield f"rows along {description.batch_axis}{along}"
    if description.sequences:
        yield "sequences"
        yield from map(_sequence, description.sequences)
    if description.states:
        yield "states"
        yield from (f"  {state.output} goes back in as {state.input}" for state in description.states)
    yield from (f"must be 0 or 1      {name}, which is taken for a mask" for name in description.zeros_and_ones)
    yield f"padding convention  {description.convention}"
    yield f"made with           {versions}"
    yield f"weights' sha256     {description.weights_sha256}"
    yield from (f"proof: {name}      {value}" for name, value in description.proof.items())
    if description.precision is not None:
        yield from _precision(description.precision)
    yield from (f"note: {note}" for note in description.notes)


def _precision(precision: PrecisionInfo) -> Iterator[str]:
    yield f"precision           {precision.name}, with differences from the model up to {precision.bound:g} allowed"
    yield from (f"  {error.output}  at most {error.largest:g}, mean {error.mean:g}" for error in precision.errors)
    yield from (f"  not proven: {fault}" for fault in precision.faults)


def _tensor(tensor: TensorInfo) -> str:
    return f"  {tensor.name}  {tensor.dtype} [{', '.join(map(str, tensor.axes))}]"


def _sequence(sequence: SequenceInfo) -> str:
    counted = f"counted by {sequence.lengths}" if sequence.lengths else "masked by the values themselves"
    along = ", ".join([*sequence.inputs, *sequence.outputs])
    batched = f"padded with {sequence.padding_value:g}" if sequence.padded else "batched with rows of equal length only"
    return f"  {along} along {sequence.axis}, {counted}, {batched}"


def _recurrent(node: RecurrentInfo) -> str:
    lengths = f"lengths from {node.lengths}" if node.lengths else "no lengths: padding is read as data"
    what = f"{node.op} {node.direction}, {node.num_hidden_units} units"
    return f"  {node.layer}  {what}, {lengths}, {node.padded_outputs} at padded steps"
