"""How the chunks of several streams share one run: checked, padded or grouped, and cut apart again."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from seqport.runtime.artifact import Description, SequenceInfo
from seqport.runtime.convert import as_array, numpy_dtype
from seqport.runtime.errors import ArtifactError, CannotStreamError, InputNameError, InputSizeError, InputValueError
from seqport.runtime.not_a_number import NanRule
from seqport.runtime.packing import Slot
from seqport.runtime.stream_axis import stream_axis
from seqport.runtime.stream_state import row_of
from seqport.runtime.validate import Checker, InputRule


@dataclass(frozen=True)
class Chunk:
    """The next steps of one stream, each array without the batch axis."""

    arrays: dict[str, np.ndarray]
    steps: int
    label: str = ""  # what a message about it begins with: which of several streams it is of


class StreamSignature:
    """What a chunk is for one model, worked out once.

    Args:
        description: what the artifact says of itself.
        time_and_batch: the axes of the first recurrent layer's steps and rows, for a model without lengths.
        tables: the inputs that are looked up in a table, and so are no lengths.

    Attributes:
        sequence: the one sequence axis; where the model takes no lengths, only chunks of equal size share a run.
        inputs: what a chunk consists of, and the states that the model itself takes.
        outputs: what it gives.
        states: the model's own state inputs, each with the output that goes back into it.
        first_only: the inputs that only set initial states: they come with a stream's first steps.
        lengths: the input that counts the steps.
        mask_inputs: the inputs whose values say which steps are masked.
        rows_share_runs: chunks of several streams may share a run; not so where rows change each other's answers.
        masked_steps_allowed: a step that the model masks by its value may come in a chunk.
        masked_steps_by_value: where it may not, the padding value says which steps these are, for want of a mask.
        nan: what becomes of NaN in a chunk.

    Raises:
        CannotStreamError: the model has no such axis, several, or fixes it.
    """

    def __init__(
        self,
        description: Description,
        time_and_batch: tuple[str | int | None, str | int | None] = (None, None),
        tables: Container[str] = (),
    ) -> None:
        self.sequence = stream_axis(description, *time_and_batch, tables)
        batch_axis = self.sequence.batch_axis
        assert isinstance(batch_axis, str)
        by_input = {name: (self.sequence, axis) for name, axis in self.sequence.inputs.items()}
        by_output = {name: (self.sequence, axis) for name, axis in self.sequence.outputs.items()}
        self.lengths = next((info for info in description.inputs if info.name == self.sequence.lengths), None)
        try:
            self.inputs = {
                info.name: Slot.of(info, batch_axis, by_input) for info in description.inputs if info != self.lengths
            }
            self.outputs = {info.name: Slot.of(info, batch_axis, by_output) for info in description.outputs}
        except ArtifactError as error:
            raise CannotStreamError(f"the model cannot stream: {error}") from error
        self.states = {state.input: state.output for state in description.states}
        self.zeros_and_ones = frozenset(description.zeros_and_ones)
        self.rows_share_runs = description.rows_independent
        self.masked_steps_allowed, self.masked_steps_by_value = True, True
        self.nan: NanRule | None = None
        self._description = description
        self.set_first_only(())
        self._timed = {name: self.inputs[name] for name in self.sequence.inputs}
        self._first_timed, self._first_slot = next(iter(self._timed.items()))
        self._steps_of = {name: slot.row_steps for name, slot in self._timed.items()}
        self.mask_inputs = _masks(self.sequence, self._timed)

    def set_first_only(self, names: Iterable[str]) -> None:
        """Say which inputs only set initial states; worked out once the graph is known."""
        self.first_only = frozenset(names)
        optional = self.states.keys() | self.first_only
        self._chunk_names = [name for name in self.inputs if name not in optional]
        self._always_alike = all(_alike(self.inputs[name]) for name in self._chunk_names)
        self._chunk_plan = [(name, row_axis(self.inputs[name].batch), self.inputs[name]) for name in self._chunk_names]
        rules = [
            InputRule(name, numpy_dtype(slot.info.dtype), slot.row_axes, required=name not in optional)
            for name, slot in self.inputs.items()
        ]
        described = self._description
        self._check = Checker(
            rules,
            limits=described.limits,
            zeros_and_ones=described.zeros_and_ones,
            tables=described.tables,
            not_negative=described.not_negative,
        )
        self._check_empty = Checker(rules, refuse_empty=False)

    def chunk(self, value: Any, label: str = "") -> Chunk:
        """A checked chunk.

        Args:
            value: a dict of input names to arrays without the batch axis, or the bare array where the model has
                one input beside its states.
            label: what messages about it begin with, once it is checked.

        Raises:
            InputError: it does not fit, and the subclass names the cause.
        """
        given = self._named(value)
        steps = self._steps(given)
        arrays = self._check(given) if steps else self._check_empty(given)
        if not steps and (states := sorted(arrays.keys() & self.states.keys())):
            raise InputSizeError(
                f"the state {', '.join(map(repr, states))} came with a chunk of 0 steps, which changes nothing: "
                "give it with the steps that it is for"
            )
        if self.nan is not None and self.nan.checks:
            self.nan.check_row(arrays, self._steps_of)
        if steps and not self.masked_steps_allowed and self.masked_steps_by_value:
            self._refuse_masked(arrays)
        return Chunk(arrays, steps, label)

    def groups(self, chunks: Sequence[Chunk]) -> list[list[int]]:
        """Which chunks share a run: all that have steps, or those of one size where nothing tells padding apart."""
        if not self.rows_share_runs:
            return [[index] for index, chunk in enumerate(chunks) if chunk.steps]
        if self._always_alike:
            group = [index for index, chunk in enumerate(chunks) if chunk.steps]
            return [group] if group else []
        alike: dict[Any, list[int]] = {}
        for index, chunk in enumerate(chunks):
            if chunk.steps:
                key = tuple(
                    tuple(chunk.arrays[name].shape[place] for place in self.inputs[name].unpadded)
                    for name in self._chunk_names
                )
                alike.setdefault(key, []).append(index)
        return list(alike.values())

    def feed(self, chunks: Sequence[Chunk]) -> dict[str, np.ndarray]:
        """The inputs of a run over chunks of one group, without the states."""
        feed = {}
        longest = max(chunk.steps for chunk in chunks)
        even = all(chunk.steps == longest for chunk in chunks)
        for name, new_axis, slot in self._chunk_plan:
            if len(chunks) == 1:  # a view is enough, at a tenth of the time
                feed[name] = chunks[0].arrays[name][new_axis]
            elif even:
                feed[name] = np.stack([chunk.arrays[name] for chunk in chunks], slot.batch)
            else:
                feed[name] = slot.pack([chunk.arrays[name] for chunk in chunks], longest)
        if self.lengths:
            steps = np.array([chunk.steps for chunk in chunks], self.lengths.dtype)
            feed[self.lengths.name] = steps.reshape(-1, *[1] * (len(self.lengths.axes) - 1))
        return feed

    def cut(self, outputs: Mapping[str, np.ndarray], place: int, steps: int) -> dict[str, np.ndarray]:
        """One stream's part of a run's outputs, without the batch axis and trimmed to its steps."""
        found = {}
        for name, slot in self.outputs.items():
            array = outputs[name]
            if slot.sequence is None or array.shape[slot.steps] == steps:
                found[name] = row_of(array, slot.batch, place)
            else:
                row = row_of(array, slot.batch, place)
                found[name] = row[(*[slice(None)] * slot.row_steps, slice(steps if slot.padded else None))].copy()
        return found

    def nothing(self) -> dict[str, np.ndarray]:
        """The outputs along the steps, of 0 steps."""
        empty = {}
        for name, slot in self.outputs.items():
            if slot.sequence is not None:
                shape = [axis if isinstance(axis, int) else 0 for axis in slot.row_axes]
                empty[name] = np.zeros(shape, slot.info.dtype)
        return empty

    def answers(self) -> dict[str, tuple[str, tuple[str | int, ...]]]:
        """The dtype and the axes of each output without steps."""
        return {name: (slot.info.dtype, slot.row_axes) for name, slot in self.outputs.items() if slot.sequence is None}

    def _named(self, value: Any) -> dict[str, Any]:
        if not isinstance(value, Mapping):
            if len(self._chunk_names) != 1:
                raise InputNameError(
                    f"a bare chunk came, and the model has the inputs {self._chunk_names}: give a dict of them"
                )
            return {self._chunk_names[0]: value}
        if self.lengths is not None and self.lengths.name in value:
            raise InputNameError(f"input {self.lengths.name!r} came: leave it out, a chunk's steps are counted")
        if value and not value.keys() & self.inputs.keys():
            raise InputNameError(
                f"a chunk's dict has the keys {sorted(map(repr, value))}, expected the inputs {self._chunk_names}: "
                "chunks of many streams by id go to session.streams().push"
            )
        return dict(value)

    def _steps(self, given: dict[str, Any]) -> int:
        """The steps of a chunk that is not checked yet; lists become arrays here."""
        for name, slot in self._timed.items():
            value = given.get(name)
            if isinstance(value, list | tuple) and not len(value) and slot.row_steps == 0:
                sizes = [axis if isinstance(axis, int) else 0 for axis in slot.row_axes]
                given[name] = np.zeros(sizes, slot.info.dtype)
            elif value is not None and type(value) is not np.ndarray:
                given[name] = as_array(name, value, numpy_dtype(slot.info.dtype))
        shape = getattr(given.get(self._first_timed), "shape", ())
        position = self._first_slot.row_steps
        return shape[position] if position < len(shape) else 1

    def _refuse_masked(self, arrays: Mapping[str, np.ndarray]) -> None:
        for name in self.mask_inputs:
            by_step = np.moveaxis(arrays[name], self.inputs[name].row_steps, 0)
            masked = (by_step == self.sequence.padding_value).reshape(len(by_step), -1).all(axis=1)
            if masked.any():
                raise InputValueError(self.said_of_masked(Chunk(dict(arrays), len(by_step)), int(masked.argmax())))

    def said_of_masked(self, chunk: Chunk, step: int) -> str:
        """What a message says of a step that the model masks."""
        name = self.mask_inputs[0]
        values = np.moveaxis(chunk.arrays[name], self.inputs[name].row_steps, 0)[step]
        alike = values.size and (values == values.flat[0]).all()
        value = f"is {values.flat[0].item():g}" if alike else "is one"
        return (
            f"{chunk.label}step {step} of {name!r} {value}, which the model masks, and what it gives there depends on "
            "the chunk before: leave such steps out"
        )


def _alike(slot: Slot) -> bool:
    """Whether any two rows may share a batch: they differ in nothing but steps that are padded."""
    padded = slot.sequence is not None and slot.sequence.padded
    return all(
        isinstance(axis, int) or (padded and place == slot.row_steps) for place, axis in enumerate(slot.row_axes)
    )


def row_axis(batch: int) -> tuple[slice | None, ...]:
    """The index that gives one row its batch axis, as a view."""
    return (*[slice(None)] * batch, None)


def _masks(sequence: SequenceInfo, timed: Mapping[str, Slot]) -> list[str]:
    """The inputs whose values tell the model what to mask: a mask of its own, where there is one."""
    if sequence.lengths is not None or not sequence.padded:
        return []
    masks = [name for name, slot in timed.items() if slot.info.dtype == "bool"]
    return masks or list(timed)
