"""Reads from a description how a network's answers and states go back into it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from seqport.runtime.artifact import Description, SequenceInfo, TensorInfo
from seqport.runtime.convert import as_array, numpy_dtype
from seqport.runtime.errors import (
    ArtifactError,
    EmptyBatchError,
    InputNameError,
    InputRankError,
    InputSizeError,
    InputValueError,
)
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
        smallest: the smallest token that the model takes.
        largest: the largest token that the model's table has; None where that is not known.
    """

    input: TensorInfo
    output: TensorInfo
    states: tuple[tuple[TensorInfo, str], ...]
    sequence: SequenceInfo
    batch_axis: str
    lengths: TensorInfo | None
    smallest: int = 0
    largest: int | None = None

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
        fed = inputs[next(iter(sequence.inputs))]
        lengths = inputs[sequence.lengths] if sequence.lengths else None
        smallest, largest = description.tables.get(fed.name, (0, None))
        found = cls(fed, answers[0], states, sequence, batch_axis_of(description), lengths, smallest, largest)
        if found.fixed > 1 and lengths is None:
            raise ArtifactError(
                f"the file fixes the steps of {fed.name!r} to {found.fixed} and takes no lengths, so it cannot be fed "
                "one step at a time: export it with a dynamic axis"
            )
        if not found.tokens and fed.axes[2:] != answers[0].axes[2:]:
            raise ArtifactError(
                f"the answers {answers[0].name!r} [{', '.join(map(str, answers[0].axes))}] cannot go back in as "
                f"{fed.name!r} [{', '.join(map(str, fed.axes))}]: generating needs as many features as it gives"
            )
        return found

    @property
    def tokens(self) -> bool:
        """Whether tokens go back in, and not features."""
        dtype = numpy_dtype(self.input.dtype)
        return len(self.input.axes) == 2 and dtype is not None and dtype.kind in "iu"

    @property
    def fixed(self) -> int:
        """The steps that the file fixes its sequence axis to; 1 where it is dynamic."""
        size = self.input.axes[self.sequence.inputs[self.input.name]]
        return size if isinstance(size, int) else 1

    def start(self, first: Any, rows: int | None) -> np.ndarray:
        """The first step's values, [batch] tokens or [batch, input_dim] features.

        Args:
            first: they, or one token for every row.
            rows: how many rows the states have; None where none were given.
        """
        if isinstance(first, int | np.integer):
            first = [int(first)] * (rows or 1)
        values = first if isinstance(first, np.ndarray) else as_array("first", first, numpy_dtype(self.input.dtype))
        if values.ndim != len(self.input.axes) - 1:
            raise InputRankError(
                f"first has the shape {list(values.shape)}, expected {len(self.input.axes) - 1} axes: "
                f"one step of {self.input.name!r} [{', '.join(map(str, self.input.axes))}] for each row"
            )
        if not len(values):
            raise EmptyBatchError("first is empty, so there is no row to generate")
        above = values > (values if self.largest is None else self.largest)
        wrong = (values < self.smallest) | above if self.tokens else None
        if wrong is not None and wrong.any():
            row = int(wrong.argmax())
            within = f"{self.smallest} or more" if self.largest is None else f"{self.smallest} to {self.largest}"
            raise InputValueError(f"first holds the token {values[row]} for row {row}, expected {within}")
        return values

    def given(self, states: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """The states to start from, by input name.

        Args:
            states: by input name (h_0), of which some may be absent; or what another network answered, by
                output name (h_T), whose other outputs are ignored.
        """
        outputs = {output: info for info, output in self.states}
        names = [info.name for info, _ in self.states]
        if any(name in outputs for name in states if name not in names):
            lacking = [output for output in outputs if output not in states]
            if lacking:
                raise ArtifactError(
                    f"the model's states are {list(outputs)}, and the encoder gives {list(states)}: "
                    "export both with their final states as outputs"
                )
            states = {info.name: states[output] for output, info in outputs.items()}
        unknown = [name for name in states if name not in names]
        if unknown:
            raise InputNameError(f"states {unknown} came, expected some of {names}")
        checked = {}
        for info, _ in self.states:
            if info.name not in states:
                continue
            value = states[info.name]
            array = value if isinstance(value, np.ndarray) else as_array(info.name, value, numpy_dtype(info.dtype))
            if array.ndim != len(info.axes):
                raise InputRankError(
                    f"state {info.name!r} has the shape {list(array.shape)}, expected "
                    f"[{', '.join(map(str, info.axes))}]"
                )
            checked[info.name] = array
        return checked

    def rows(self, states: Mapping[str, np.ndarray]) -> int | None:
        """How many rows some states have; None where there are none."""
        return next((states[name].shape[axis] for name, axis in self._axes() if name in states), None)

    def initial(self, states: Mapping[str, np.ndarray], rows: int) -> dict[str, np.ndarray]:
        """All states; zeros for those that are not given."""
        for name, axis in self._axes():
            if name in states and states[name].shape[axis] != rows:
                raise InputSizeError(
                    f"state {name!r} has the shape {list(states[name].shape)}, with {states[name].shape[axis]} rows "
                    f"on axis {axis}, and first has {rows}: give as many"
                )
        return {info.name: states.get(info.name, self._zeros(info, rows)) for info, _ in self.states}

    def _zeros(self, info: TensorInfo, batch_size: int) -> np.ndarray:
        shape = [batch_size if axis == self.batch_axis else axis for axis in info.axes]
        return np.zeros(shape, info.dtype)  # type: ignore[arg-type]

    def inputs(self, current: np.ndarray, carried: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """What the next step takes: one step a row."""
        axis = self.sequence.inputs[self.input.name]
        one = np.expand_dims(current, axis)
        if self.fixed > 1:
            padding = np.full_like(one, self.sequence.padding_value).repeat(self.fixed - 1, axis)
            one = np.concatenate([one, padding], axis)
        feed = {self.input.name: one, **carried}
        if self.lengths:
            feed[self.lengths.name] = np.ones(len(current), self.lengths.dtype)
        return feed

    def answer(self, outputs: Mapping[str, Any]) -> np.ndarray:
        """What the last step says, [batch, out_dim]."""
        values = np.asarray(outputs[self.output.name])
        axis = self._axis_of_steps
        return values if axis is None else values.take(0, axis)  # what stands behind it is padding

    @property
    def _axis_of_steps(self) -> int | None:
        """Where the answers have their steps; None where they have none."""
        axis = self.sequence.outputs.get(self.output.name)
        if axis is None and self.fixed > 1:  # such an axis has no name that the outputs could share
            places = [place for place, size in enumerate(self.output.axes[:-1]) if size == self.fixed]
            return places[0] if len(places) == 1 else None
        return axis

    def take(self, states: Mapping[str, np.ndarray], rows: np.ndarray) -> dict[str, np.ndarray]:
        """The states of some rows, by number."""
        return {name: states[name].take(rows, axis) for name, axis in self._axes()}

    def rows_of(self, feed: Mapping[str, np.ndarray], rows: np.ndarray) -> dict[str, np.ndarray]:
        """A step's inputs of some rows, by number."""
        axes = {self.input.name: self.input.axes.index(self.batch_axis), **dict(self._axes())}
        return {name: array.take(rows, axes.get(name, 0)) for name, array in feed.items()}

    @property
    def batch_axes(self) -> list[tuple[str, int]]:
        """Each state's input and the position of its batch axis."""
        return self._axes()

    def join(self, states: Mapping[str, np.ndarray], others: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The states of some rows and then of others."""
        return {name: np.concatenate([states[name], others[name]], axis) for name, axis in self._axes()}

    def _axes(self) -> list[tuple[str, int]]:
        return [(info.name, info.axes.index(self.batch_axis)) for info, _ in self.states]
