"""Generates sequences step by step: each answer goes back in, and so does the state.

The loop knows no runtime. `step` is whatever maps a dict of input arrays to a dict of output arrays
under the names of the description (`Session.run`, or a framework's model behind a small wrapper), so
one loop generates with each of them and only the network differs. `Session.generate` is the same for a session.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import numpy as np

from seqport.runtime.artifact import Description
from seqport.runtime.errors import ArtifactError, EmptyBatchError, InputError
from seqport.runtime.generation import Ending, Generation, Step
from seqport.runtime.packing import batch_axis_of


class Encoder(Protocol):
    """A session whose final states another one begins with."""

    @property
    def description(self) -> Description:
        """What it says of itself."""
        ...

    def run(self, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Run one padded batch."""
        ...

    def predict(self, items: Iterable[Any]) -> list[dict[str, np.ndarray]]:
        """Run sequences of any lengths."""
        ...


def greedy(
    step: Step,
    description: Description,
    first: Any,
    states: Mapping[str, Any] | None = None,
    *,
    max_steps: int,
    stop: int | Iterable[int] | None = None,
) -> list[np.ndarray]:
    """Feed a network its own most likely answers, all rows in one batch.

    Args:
        step: runs one step: dict of arrays in, dict of arrays out.
        description: of the network that `step` runs: one sequence input, one output beside the states.
        first: what starts each row: tokens [batch], or features [batch, input_dim].
        states: initial states by input name; one that is absent is zero.
        max_steps: no row gets longer.
        stop: the tokens that end a row. A row that has ended leaves the batch.

    Returns:
        One array a row, without `first` and without `stop`: tokens [steps], shorter than `max_steps`
        where the row was stopped; for features always [max_steps, out_dim].

    Raises:
        ArtifactError: the network is not of that form, or carries no state.
        InputError: `first`, `states` or `stop` does not fit it.
    """
    generation = Generation(description)
    return generation.rows(step, first, states, ending=Ending(max_steps, stop), batch_size=2**31)


def encoded(encode: Step, decoder: Description, source: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The decoder's initial states: the encoder's final ones, under the decoder's input names.

    Args:
        encode: runs the encoder, whose final states are named as the decoder's (h_T, c_T).
        decoder: the description of the decoder; its states say that h_T goes in as h_0.
        source: the encoder's inputs, one padded batch.

    Raises:
        ArtifactError: the encoder does not give a state that the decoder takes.
    """
    return _states_of(encode(source), decoder)


def encoded_by(
    encoder: Encoder | None, inputs: Mapping[str, Any] | Iterable[Any] | None, decoder: Description
) -> dict[str, np.ndarray] | None:
    """The same from a session, for `Session.generate`; None where there is no encoder.

    Raises:
        InputError: an encoder without its inputs, or inputs without an encoder, or no rows.
    """
    if encoder is None or inputs is None:
        if encoder is not None or inputs is not None:
            here, lacks = ("encoder", "inputs") if inputs is None else ("inputs", "encoder")
            raise InputError(f"{here} came without {lacks}: give both, or what the encoder answered as states")
        return None
    if isinstance(inputs, Mapping):
        return _states_of(encoder.run(inputs), decoder)
    answers = encoder.predict(inputs)
    if not answers:
        raise EmptyBatchError("inputs is empty, so there is no row to generate")
    batch_axis = batch_axis_of(encoder.description)
    stacked = {
        info.name: np.stack([answer[info.name] for answer in answers], info.axes.index(batch_axis))
        for info in encoder.description.outputs
        if any(state.output == info.name for state in decoder.states)
    }
    return _states_of(stacked, decoder)


def _states_of(outputs: Mapping[str, Any], decoder: Description) -> dict[str, np.ndarray]:
    lacking = [state.output for state in decoder.states if state.output not in outputs]
    if lacking or not decoder.states:
        raise ArtifactError(
            f"the decoder's states are {[state.output for state in decoder.states]}, and the encoder gives "
            f"{list(outputs)}: export both with their final states as outputs"
        )
    return {state.input: np.asarray(outputs[state.output]) for state in decoder.states}
