"""What a network that generates is asked before tokens are drawn: whether it says probabilities.

That is found once, with the same made-up tokens and states every time: were it judged by each answer, a row's tokens
would hang on the company that it is in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from seqport.runtime.errors import ArtifactError
from seqport.runtime.feedback import Feedback

Step = Callable[[dict[str, np.ndarray]], Mapping[str, Any]]
_ROWS = 16
_LARGE = 32.0  # states of one row: what small ones leave near its middle is driven to its ends
_SUM = 1e-3  # how close to 1 the sum of probabilities is


def gives_probabilities(step: Step, feedback: Feedback, squashed: bool | None) -> bool:
    """Whether what the model says is to be drawn as it is, and not as logits.

    Args:
        step: runs one step.
        feedback: of the network.
        squashed: whether its answers come out of a Softmax, a Sigmoid or another such function, with no logarithm
            behind it; None where its graph was not read.

    Returns:
        Answers that are nowhere negative are drawn as they are, if they are scores or at most 1; others are logits.

    Raises:
        ArtifactError: nothing says what they are: nowhere negative and above 1 with an unknown graph, or probabilities
            from which something was taken off; or no row is of numbers.
    """
    said = _of_numbers(np.concatenate([feedback.answer(step(feed)) for feed in _asked(feedback)]).astype(np.float64))
    if not len(said):
        raise ArtifactError(
            f"nothing can be drawn from {feedback.output.name!r}: from zero, small and large states its answers are "
            "NaN or infinite; call the model itself with one token and zero states"
        )
    least, largest = said.min(), said.max()
    sums = said.sum(-1)
    if least >= 0 and (squashed or largest <= 1 + _SUM or np.abs(sums - 1).max() < _SUM):
        return True
    if squashed is False or (least < 0 and not (squashed and np.ptp(sums) < _SUM)):
        return False
    what = "its answers are squashed, so they are no logits" if squashed else "its answers are nowhere negative"
    raise ArtifactError(
        f"nothing can be drawn from {feedback.output.name!r}: {what}, and {least:.3g} to {largest:.3g} are no "
        "probabilities either; export the model with logits, or with their softmax, as its answer"
    )


def _of_numbers(said: np.ndarray) -> np.ndarray:
    """The rows that say something: large states may lead to NaN, which compares with nothing; -inf bans a token."""
    return said[(said < np.inf).all(-1) & np.isfinite(said).any(-1)]


def _asked(feedback: Feedback) -> list[dict[str, np.ndarray]]:
    """Steps of several rows: from zero states, from small ones, and from small and large ones."""
    random = np.random.default_rng(0)
    if feedback.tokens:
        axis = feedback.output.axes[-1]
        first = np.arange(min(axis, _ROWS) if isinstance(axis, int) else 2).astype(feedback.input.dtype)
    else:
        sizes = [axis if isinstance(axis, int) else 1 for axis in feedback.input.axes[2:]]
        first = random.standard_normal((3, *sizes)).astype(feedback.input.dtype)
    zeros = feedback.initial({}, len(first))
    small = {name: random.uniform(-1, 1, zero.shape).astype(zero.dtype) for name, zero in zeros.items()}
    large = {name: state.copy() for name, state in small.items()}
    for name, axis in feedback.batch_axes:
        np.moveaxis(large[name], axis, 0)[0] *= np.asarray(_LARGE).astype(large[name].dtype)
    return [feedback.inputs(first, states) for states in (zeros, small, large)]
