"""What an artifact says of itself, in words."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from seqport.runtime import Description, RecurrentInfo, SequenceInfo, TensorInfo


def describe_lines(path: Path, description: Description) -> Iterator[str]:
    """The lines of `seqport inspect`."""
    versions = ", ".join(f"{name} {version}" for name, version in description.source.items() if name != "framework")
    framework = description.source.get("framework", "an unknown framework")
    yield f"{path}: from {framework}, opset {description.opset}, {path.stat().st_size / 1000:.0f} kB"
    yield "inputs"
    yield from map(_tensor, description.inputs)
    yield "outputs"
    yield from map(_tensor, description.outputs)
    yield "sequences"
    yield from map(_sequence, description.sequences)
    if description.states:
        yield "states"
        yield from (f"  {state.output} goes back in as {state.input}" for state in description.states)
    yield "recurrent nodes"
    yield from map(_recurrent, description.recurrent)
    yield f"padding convention  {description.convention}"
    yield f"made with           {versions}"
    yield f"weights' sha256     {description.weights_sha256}"
    yield from (f"proof: {name}      {value}" for name, value in description.proof.items())
    yield from (f"breaks the contract: {reason}" for reason in description.breaks)


def _tensor(tensor: TensorInfo) -> str:
    return f"  {tensor.name}  {tensor.dtype} [{', '.join(map(str, tensor.axes))}]"


def _sequence(sequence: SequenceInfo) -> str:
    counted = f"counted by {sequence.lengths}" if sequence.lengths else "masked by the values themselves"
    along = ", ".join([*sequence.inputs, *sequence.outputs])
    return f"  {along} along {sequence.axis}, {counted}, padded with {sequence.padding_value:g}"


def _recurrent(node: RecurrentInfo) -> str:
    lengths = f"lengths from {node.lengths}" if node.lengths else "no lengths: padding is read as data"
    what = f"{node.op} {node.direction}, {node.num_hidden_units} units"
    return f"  {node.layer}  {what}, {lengths}, {node.padded_outputs} at padded steps"
