"""Finds the one axis along which a model can be fed chunk by chunk, or says why there is none."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import replace

from seqport.runtime.artifact import Description, SequenceInfo, TensorInfo
from seqport.runtime.errors import ArtifactError, CannotStreamError
from seqport.runtime.packing import axis_name, batch_axis_of


def stream_axis(
    description: Description, time: str | int | None, batch: str | int | None, tables: Container[str]
) -> SequenceInfo:
    """The axis along which chunks come.

    Args:
        description: what the artifact says of itself.
        time: the axis of the first recurrent layer's steps, for a model without lengths; None where it is not known.
        batch: that of its rows.
        tables: the inputs that are looked up in a table, and so are no lengths.

    Raises:
        CannotStreamError: there is none, or several, or the file fixes it.
    """
    if len(description.sequences) > 1:
        axes = ", ".join(repr(axis_name(sequence)) for sequence in description.sequences)
        raise CannotStreamError(f"the model cannot stream: it has several sequence axes ({axes}), expected one")
    sequence = description.sequences[0] if description.sequences else _unpadded(description, time, batch, tables)
    axis, batch_axis = sequence.axis, sequence.batch_axis
    if isinstance(axis, int):
        raise CannotStreamError(
            f"the model cannot stream: the file fixes its sequence axis to {axis} steps; "
            "export it with a dynamic one, as Input(name, ('batch', 'seq', ...))"
        )
    if isinstance(batch_axis, int):
        raise CannotStreamError(
            f"the model cannot stream: the file fixes its batch axis to {batch_axis}; export it with a dynamic one"
        )
    smallest, _ = description.limits.get(axis, (1, None))
    if smallest > 1:
        raise CannotStreamError(
            f"the model cannot stream: its own layers need at least {smallest} steps in a run, and a chunk may have one"
        )
    if not sequence.inputs:
        raise CannotStreamError(f"the model cannot stream: none of its inputs has the sequence axis {axis!r}")
    return sequence


def _unpadded(
    description: Description, time: str | int | None, batch: str | int | None, tables: Container[str]
) -> SequenceInfo:
    """The sequence of a model whose recurrent layers take no lengths; its axes are those of the first, where known.

    The one whole number a row that is looked up nowhere can only be lengths, which other layers use (the last valid
    step, say); if it is something else, the proof fails.
    """
    if description.batch_axis is not None or batch is None:
        try:
            batch = batch_axis_of(description)
        except ArtifactError as error:
            raise CannotStreamError(f"the model cannot stream: {error}") from error
    time = description.steps_axis or time
    if time is None:
        dynamic = {axis for info in description.inputs for axis in info.axes if isinstance(axis, str)} - {batch}
        if len(dynamic) != 1:
            what = f"several that may be ({', '.join(sorted(dynamic))})" if dynamic else "none that is dynamic"
            raise CannotStreamError(f"the model cannot stream: it needs one sequence axis, and its inputs have {what}")
        time = dynamic.pop()
    numbers = [info.name for info in description.inputs if info.name not in tables and _is_per_row(info, batch)]
    sequence = SequenceInfo(time, batch, numbers[0] if len(numbers) == 1 else None, {}, {}, padded=False)
    return replace(sequence, inputs=_along(description.inputs, time), outputs=_along(description.outputs, time))


def _is_per_row(info: TensorInfo, batch: str | int) -> bool:
    """Whether it is a whole number a row, [batch] or [batch, 1]."""
    return info.dtype.startswith(("int", "uint")) and info.axes[:1] == (batch,) and set(info.axes[1:]) <= {1}


def _along(tensors: Sequence[TensorInfo], time: str | int) -> dict[str, int]:
    return {info.name: info.axes.index(time) for info in tensors if time in info.axes}
