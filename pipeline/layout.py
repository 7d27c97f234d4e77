"""Where a network keeps its rows and steps, and what its artifact must say of itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from seqport.models import Part
from seqport.runtime import Description, SequenceInfo, StateInfo, TensorInfo

Arrays = Mapping[str, np.ndarray]


class Place(NamedTuple):
    """The axes of one tensor: where its rows lie, and where its steps, if it has steps."""

    batch: int
    steps: int | None = None


@dataclass(frozen=True)
class Layout:
    """The axes of a network's tensors.

    Attributes:
        inputs: every input but the lengths.
        outputs: every output.
        finals: the outputs that are final states.
        lengths: the input that counts each row's steps, [batch].
        open_steps: the steps may be any number; otherwise the axis has one fixed size.
    """

    inputs: Mapping[str, Place]
    outputs: Mapping[str, Place]
    finals: frozenset[str] = frozenset()
    lengths: str = "lengths"
    open_steps: bool = True

    @classmethod
    def of(cls, part: Part) -> Layout:
        """The layout of a part of a specification."""
        source, lengths, *states = part.inputs
        finals = [f"{state}_T" for state in part.states]
        outputs = {name: Place(1) for name in finals}
        if part.out_dim is not None:
            outputs["output"] = Place(0, 1 if part.every_step else None)
        return cls(
            inputs={source.name: Place(0, 1), **{state.name: Place(1) for state in states}},
            outputs={name: outputs[name] for name in part.outputs},
            finals=frozenset(finals),
            lengths=lengths.name,
            open_steps=isinstance(source.axes[1], str),
        )

    def steps(self, inputs: Arrays) -> int:
        """The size of the padded axis."""
        return next(inputs[name].shape[place.steps] for name, place in self.inputs.items() if place.steps is not None)

    def take_inputs(self, inputs: Arrays, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Some rows of a batch, in the order asked for."""
        return {**_take(inputs, self.inputs, rows), self.lengths: inputs[self.lengths][rows]}

    def take_outputs(self, outputs: Arrays, rows: np.ndarray) -> dict[str, np.ndarray]:
        """The same of what a network gave for the batch."""
        return _take(outputs, self.outputs, rows)

    def resize_inputs(self, inputs: Arrays, steps: int) -> dict[str, np.ndarray]:
        """The batch with its padded axis cut, or made longer with zeros."""
        resized = _cut(inputs, self.inputs, steps)
        for name, place in self.inputs.items():
            if place.steps is not None:
                more = [(0, 0)] * resized[name].ndim
                more[place.steps] = (0, steps - resized[name].shape[place.steps])
                resized[name] = np.pad(resized[name], more)
        return {**resized, self.lengths: inputs[self.lengths]}

    def cut_outputs(self, outputs: Arrays, steps: int) -> dict[str, np.ndarray]:
        """The first steps of what a network gave; what has no steps is whole."""
        return _cut(outputs, self.outputs, steps)


def padding_of(array: np.ndarray, place: Place, lengths: np.ndarray) -> np.ndarray:
    """True at the padded steps of an array, in its own shape; all False where it has no steps."""
    if place.steps is None:
        return np.zeros(array.shape, bool)
    shape = [1] * array.ndim
    shape[place.steps] = -1
    steps = np.arange(array.shape[place.steps]).reshape(shape)
    shape = [1] * array.ndim
    shape[place.batch] = -1
    return np.broadcast_to(steps >= lengths.reshape(shape), array.shape)


def describe(part: Part) -> Description:
    """What an artifact of this part must say of its signature, its sequence and its states."""
    source, lengths, *states = part.inputs
    seq = source.axes[1]
    head = ("batch", seq, part.out_dim) if part.every_step else ("batch", part.out_dim)
    state = (part.num_layers * part.num_directions, "batch", part.num_hidden_units)
    axes = {"output": head, **{f"{name}_T": state for name in part.states}}
    return Description(
        inputs=tuple(TensorInfo(name, dtype, axes) for name, axes, dtype in part.inputs),
        outputs=tuple(TensorInfo(name, "float32", axes[name]) for name in part.outputs),
        batch_axis="batch",
        steps_axis=seq if isinstance(seq, str) else None,
        sequences=(
            SequenceInfo(
                axis=seq,
                batch_axis="batch",
                lengths=lengths.name,
                inputs={source.name: 1},
                outputs={"output": 1} if part.every_step else {},
            ),
        ),
        states=tuple(StateInfo(f"{name}_0", f"{name}_T") for name in part.states if states),
    )


def _take(arrays: Arrays, places: Mapping[str, Place], rows: np.ndarray) -> dict[str, np.ndarray]:
    return {name: arrays[name].take(rows, place.batch) for name, place in places.items()}


def _cut(arrays: Arrays, places: Mapping[str, Place], steps: int) -> dict[str, np.ndarray]:
    return {
        name: arrays[name] if place.steps is None else arrays[name][(slice(None),) * place.steps + (slice(steps),)]
        for name, place in places.items()
    }
