"""Generates sequences step by step: each answer goes back in, and so does the state.

The loop knows no runtime. `step` is whatever maps a dict of input arrays to a dict of output arrays
under the names of the description (`Session.run`, or a framework's model behind a small wrapper), so
one loop generates with each of them and only the network differs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from seqport.runtime.artifact import Description
from seqport.runtime.errors import ArtifactError, InputError
from seqport.runtime.feedback import Feedback
from seqport.runtime.packing import batch_axis_of

if TYPE_CHECKING:
    from seqport.runtime.session import Session

Step = Callable[[dict[str, np.ndarray]], Mapping[str, Any]]


def greedy(
    step: Step,
    description: Description,
    first: Any,
    states: Mapping[str, np.ndarray] | None = None,
    *,
    max_steps: int,
    stop: int | None = None,
) -> list[np.ndarray]:
    """Feed a network its own most likely answers.

    Args:
        step: runs one step: dict of arrays in, dict of arrays out.
        description: of the network that `step` runs: one sequence input, one output beside the states.
        first: what starts each row: tokens [batch], or features [batch, input_dim].
        states: initial states by input name; one that is absent is zero.
        max_steps: no row gets longer.
        stop: the token that ends a row. A row that has ended leaves the batch.

    Returns:
        One array a row, without `first` and without `stop`: tokens [steps], shorter than `max_steps`
        where the row was stopped; for features always [max_steps, out_dim].

    Raises:
        ArtifactError: the network is not of that form, or carries no state.
        InputError: `first`, `states` or `stop` does not fit it.
    """
    feedback = Feedback.of(description)
    current = feedback.start(first)
    tokens = current.ndim == 1
    if max_steps < 1:
        raise InputError(f"max_steps is {max_steps}, expected at least 1")
    if stop is not None and not tokens:
        raise InputError(f"stop is {stop}, but {feedback.input.name!r} takes features, not tokens: leave it out")
    carried = feedback.initial(states or {}, batch_size=len(current))
    answers: list[list[np.ndarray]] = [[] for _ in current]
    alive = np.arange(len(current))
    for _ in range(max_steps):
        outputs = step(feedback.inputs(current, carried))
        o_t = feedback.answer(outputs)  # [alive, out_dim]
        current = o_t.argmax(-1).astype(current.dtype) if tokens else o_t
        carried = {state.name: np.asarray(outputs[output]) for state, output in feedback.states}
        if tokens and stop is not None:
            going = current != stop
            if not going.all():
                alive, current = alive[going], current[going]
                carried = feedback.keep(carried, going)
        for row, value in zip(alive, current, strict=True):
            answers[row].append(value)
        if not len(alive):
            break
    empty = current[:0]  # a row that stopped at once still has the dtype
    return [np.stack(answer) if answer else empty for answer in answers]


def encoded(encode: Step, decoder: Description, source: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The decoder's initial states: the encoder's final ones, under the decoder's input names.

    Args:
        encode: runs the encoder, whose final states are named as the decoder's (h_T, c_T).
        decoder: the description of the decoder; its states say that h_T goes in as h_0.
        source: the encoder's inputs, one padded batch.

    Raises:
        ArtifactError: the encoder does not give a state that the decoder takes.
    """
    outputs = encode(source)
    lacking = [state.output for state in decoder.states if state.output not in outputs]
    if lacking or not decoder.states:
        raise ArtifactError(
            f"the decoder's states are {[state.output for state in decoder.states]}, and the encoder gives "
            f"{list(outputs)}: export both with their final states as outputs"
        )
    return {state.input: np.asarray(outputs[state.output]) for state in decoder.states}


def one_to_many(
    session: Session,
    first: Any,
    *,
    states: Mapping[str, np.ndarray] | None = None,
    max_steps: int,
    stop: int | None = None,
) -> list[np.ndarray]:
    """Generate from a first token or feature vector a row; see `greedy`."""
    return greedy(session.run, session.description, first, states, max_steps=max_steps, stop=stop)


def encoder_decoder(
    encoder: Session,
    decoder: Session,
    source: Mapping[str, Any],
    first: Any,
    *,
    max_steps: int,
    stop: int | None = None,
) -> list[np.ndarray]:
    """Encode a padded batch, then generate from its final states; see `greedy`.

    Args:
        encoder: gives final states.
        decoder: takes them as initial ones.
        source: the encoder's inputs.
        first: the token that starts every row, or one a row [batch], or features [batch, input_dim].
        max_steps: no row gets longer.
        stop: the token that ends a row.
    """
    states = encoded(encoder.run, decoder.description, dict(source))
    if isinstance(first, int | np.integer):
        first = [int(first)] * _batch_size(decoder.description, states)
    return greedy(decoder.run, decoder.description, first, states, max_steps=max_steps, stop=stop)


def _batch_size(description: Description, states: Mapping[str, np.ndarray]) -> int:
    info = next(info for info in description.inputs if info.name in states)
    return states[info.name].shape[info.axes.index(batch_axis_of(description))]
