"""The loop that writes rows step by step: rows end on their own, leave the batch, and waiting ones take their place.

It knows no runtime. `step` is whatever maps a dict of input arrays to a dict of output arrays under
the names of the description.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from seqport.runtime.artifact import Description
from seqport.runtime.asked import gives_probabilities
from seqport.runtime.errors import InputError, InputSizeError
from seqport.runtime.feedback import Feedback
from seqport.runtime.options import GENERATED_AT_ONCE
from seqport.runtime.sampling import Sampler, Sampling, likeliest, numbers
from seqport.runtime.written import Written

Step = Callable[[dict[str, np.ndarray]], Mapping[str, Any]]
Until = Callable[[int, np.ndarray], bool]


@dataclass(frozen=True)
class Ending:
    """When a row ends; see `Session.generate`."""

    max_steps: int
    stop: int | Iterable[int] | None = None
    until: Until | None = None

    def tokens(self, feedback: Feedback) -> list[int]:
        """The stop tokens.

        Raises:
            InputError: `max_steps` is below 1, or there are stop tokens where features go back in.
        """
        if self.max_steps < 1:
            raise InputError(f"max_steps is {self.max_steps}, expected at least 1")
        if self.stop is not None and not feedback.tokens:
            raise InputError(
                f"stop is {self.stop}, but {feedback.input.name!r} takes features, not tokens: leave it out"
            )
        if self.stop is None or isinstance(self.stop, int | np.integer):
            return [] if self.stop is None else [int(self.stop)]
        return [int(token) for token in self.stop]


class Generation:
    """How one network generates, worked out once. Safe to use from many threads.

    Args:
        description: of the network.
        squashed: whether its answers come out of a Softmax or the like; see `gives_probabilities`.

    Raises:
        ArtifactError: the network has not one sequence input and one output beside its states, or no states.
    """

    def __init__(self, description: Description, squashed: Callable[[], bool | None] = lambda: None) -> None:
        self._feedback = Feedback.of(description)
        self._squashed = squashed
        self._probabilities: bool | None = None
        self._rows_share_steps = description.rows_independent

    def rows(
        self,
        step: Step,
        first: Any,
        states: Mapping[str, Any] | None = None,
        *,
        ending: Ending,
        sampling: Sampling | None = None,
        batch_size: int = GENERATED_AT_ONCE,
    ) -> list[np.ndarray]:
        """See `Session.generate`; `step` runs one step."""
        feedback, stops = self._feedback, ending.tokens(self._feedback)
        if batch_size < 1:
            raise InputSizeError(f"batch_size is {batch_size}, expected at least 1 row a step")
        given = feedback.given(states or {})
        start = feedback.start(first, feedback.rows(given))
        initial = feedback.initial(given, len(start))
        batch_size = batch_size if self._rows_share_steps else 1
        choose = self._chooser(step, sampling or Sampling(), len(start))
        written = Written(start, ending.max_steps)
        alive = np.arange(min(batch_size, len(start)))
        waiting = len(alive)  # the first row that has not begun
        current, carried = start[alive], feedback.take(initial, alive)
        while len(alive):
            outputs = step(feedback.inputs(current, carried))
            current = choose(feedback.answer(outputs), alive)
            if feedback.tokens:
                current = current.astype(start.dtype, copy=False)
            carried = {state.name: np.asarray(outputs[output]) for state, output in feedback.states}
            going = np.ones(len(alive), bool)
            for stop in stops:  # few, and np.isin takes as long as a small network's step
                going &= current != stop
            written.append(alive[going], current[going])
            going &= written.steps[alive] < ending.max_steps
            if ending.until:
                going &= [
                    on and not ending.until(row, written[row])
                    for row, on in zip(alive.tolist(), going.tolist(), strict=True)
                ]
            if going.all():
                continue
            kept = np.flatnonzero(going)
            begun = np.arange(waiting, min(waiting + batch_size - len(kept), len(start)))
            waiting += len(begun)
            alive, current = np.concatenate([alive[kept], begun]), np.concatenate([current[kept], start[begun]])
            carried = feedback.take(carried, kept)
            if len(begun):
                carried = feedback.join(carried, feedback.take(initial, begun))
        return written.rows()

    def _chooser(self, step: Step, sampling: Sampling, rows: int) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
        """What turns [rows, out_dim] into the next input of these rows."""
        if not sampling.draws:
            return likeliest if self._feedback.tokens else numbers
        if not self._feedback.tokens:
            raise InputError(
                f"temperature is {sampling.temperature}, but {self._feedback.input.name!r} takes features, "
                "not tokens: nothing can be drawn, leave it out"
            )
        if self._probabilities is None:
            self._probabilities = gives_probabilities(step, self._feedback, self._squashed())
        return Sampler(sampling, rows, probabilities=self._probabilities)
