"""Reads from a description how a network's answers and states go back into it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from seqport.runtime.artifact import Description, SequenceInfo, TensorInfo
from seqport.runtime.convert import as_array, numpy_dtype
from seqport.runtime.errors import ArtifactError, EmptyBatchError, InputNameError, InputRankError
from seqport.runtime.packing import batch_axis_of


@dataclass(frozen=True)
class Feedback:
    """How one network's outputs become its next inputs.

    Attributes:
        input: takes the last answer.
        output: gives the next one.
        states: each state's input, and the output that goes back into it.
        sequence: the one sequence along both.
        batch_axis: the name of the batch axis.
        lengths: the input that counts the steps, always 1 here.
    """

    input: TensorInfo
    output: TensorInfo
    states: tuple[tuple[TensorInfo, str], ...]
    sequence: SequenceInfo
    batch_axis: str
    lengths: TensorInfo | None

    @classmethod
    def of(cls, description: Description) -> Feedback:
        """Read it from a description.

        Raises:
            ArtifactError: the network has not that form, carries no state, or fixes its batch size.
        """
        inputs = {info.name: info for info in description.inputs}
        carried = {state.output for state in description.states}
        states = tuple((inputs[state.input], state.output) for state in description.states)
        answers = [info for info in description.outputs if info.name not in carried]
        if len(description.sequences) != 1 or len(description.sequences[0].inputs) != 1 or len(answers) != 1:
            raise ArtifactError(
                "generating needs one sequence input and one output beside the states; the model has "
                f"the inputs {list(inputs)} and the outputs {[info.name for info in description.outputs]}"
            )
        if not states:
            raise ArtifactError(
                "the model takes no state, so each step would forget the last: export it with its initial "
                "and final states as inputs and outputs"
            )
        sequence = description.sequences[0]
        lengths = inputs[sequence.lengths] if sequence.lengths else None
        return cls(
            inputs[next(iter(sequence.inputs))], answers[0], states, sequence, batch_axis_of(description), lengths
        )

    def start(self, first: Any) -> np.ndarray:
        """The first step's values, [batch] tokens or [batch, input_dim] features."""
        values = first if isinstance(first, np.ndarray) else as_array("first", first, numpy_dtype(self.input.dtype))
        if values.ndim != len(self.input.axes) - 1:
            raise InputRankError(
                f"first has the shape {list(values.shape)}, expected {len(self.input.axes) - 1} axes: "
                f"one step of {self.input.name!r} [{', '.join(map(str, self.input.axes))}] for each row"
            )
        if not len(values):
            raise EmptyBatchError("first is empty, so there is no row to generate")
        return values

    def initial(self, given: Mapping[str, np.ndarray], batch_size: int) -> dict[str, np.ndarray]:
        """The states to start from; zeros for those that are not given."""
        names = [info.name for info, _ in self.states]
        unknown = [name for name in given if name not in names]
        if unknown:
            raise InputNameError(f"states {unknown} came, expected some of {names}")
        zeros = {info.name: self._zeros(info, batch_size) for info, _ in self.states if info.name not in given}
        return {**given, **zeros}

    def _zeros(self, info: TensorInfo, batch_size: int) -> np.ndarray:
        shape = [batch_size if axis == self.batch_axis else axis for axis in info.axes]
        return np.zeros(shape, info.dtype)  # type: ignore[arg-type]

    def inputs(self, current: np.ndarray, carried: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """What the next step takes: one step a row."""
        axis = self.sequence.inputs[self.input.name]
        feed = {self.input.name: np.expand_dims(current, axis), **carried}
        if self.lengths:
            feed[self.lengths.name] = np.ones(len(current), self.lengths.dtype)
        return feed

    def answer(self, outputs: Mapping[str, Any]) -> np.ndarray:
        """What the last step says, [batch, out_dim]."""
        values = np.asarray(outputs[self.output.name])
        axis = self.sequence.outputs.get(self.output.name)
        return values if axis is None else values.take(-1, axis)

    def keep(self, carried: Mapping[str, np.ndarray], going: np.ndarray) -> dict[str, np.ndarray]:
        """The states of the rows that go on."""
        axes = {info.name: info.axes.index(self.batch_axis) for info, _ in self.states}
        return {name: value.compress(going, axes[name]) for name, value in carried.items()}
