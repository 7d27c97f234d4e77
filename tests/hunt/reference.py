"""The model itself, in both precisions: float64 says where float32 can tell nothing."""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import nn

from hunt.feeds import Arrays
from hunt.pieces import DECIDES

# Of each output's own largest value, and how many times an element may differ by what the two precisions do there.
_TOLERANCE, _DOUBTS = 1e-3, 10


class Reference:
    """What is right.

    Args:
        model: as it was exported.
    """

    def __init__(self, model: nn.Module) -> None:
        self._single, self._double = model, copy.deepcopy(model).double()
        self._decides, self._scores = _undecided(model)

    def differs(self, found: np.ndarray, feed: Arrays) -> str | None:
        """How an answer differs from the model's, beyond what float32 explains; None where it does not."""
        expected, exact = _answer(self._single, feed), _answer(self._double, feed)
        if found.shape == expected.shape and self._scores is not None:
            return _decided_otherwise(found, expected, _answer(self._scores, feed), self._decides)
        return difference(found, expected, exact)


def _undecided(model: nn.Module) -> tuple[list, nn.Module | None]:
    """The piece that makes classes or flags, and the model without it."""
    behind = getattr(model, "spec", {}).get("behind") or [[""]]
    if behind[-1][0] not in DECIDES:
        return [], None
    scores = copy.deepcopy(model)
    scores.spec = {**model.spec, "behind": behind[:-1]}  # type: ignore[dict-item]
    return behind[-1], scores


def _decided_otherwise(found: np.ndarray, expected: np.ndarray, scores: np.ndarray, decides: list) -> str | None:
    """How a decision differs from the model's where that is none of rounding: two classes may be as likely."""
    scale = float(np.abs(scores).max(initial=0.0))
    if decides[0] == "class":
        chosen = np.clip(found, 0, scores.shape[-1] - 1)[..., None]
        margin = scores.max(-1) - np.take_along_axis(scores, chosen, -1)[..., 0]
    else:
        margin = np.abs(scores.mean(1) - decides[1])
    wrong = (found != expected) & (margin > _TOLERANCE * scale)
    return f"decides otherwise at {int(wrong.sum())} places" if wrong.any() else None


def difference(found: np.ndarray, expected: np.ndarray, exact: np.ndarray) -> str | None:
    """The same of two answers; each element by its own doubt, and where none of its row has any by the scale."""
    if found.shape != expected.shape:
        return f"has the shape {list(found.shape)}, not {list(expected.shape)}"
    if expected.dtype.kind != "f":
        wrong = (found != expected) & (exact == expected)
        return f"is another at {int(wrong.sum())} places" if wrong.any() else None
    finite = np.isfinite(expected) & np.isfinite(exact)
    if not np.array_equal(np.isfinite(found)[finite], finite[finite]):
        return "is not finite where the model is"
    agreed = ~finite & (np.isnan(expected) == np.isnan(exact)) & (np.isinf(expected) == np.isinf(exact))
    if not np.array_equal(found[agreed], expected[agreed], equal_nan=True):
        return "is finite, or another infinity, where the model is not"
    scale = float(np.abs(expected[finite]).max(initial=0.0))
    with np.errstate(invalid="ignore", over="ignore"):
        doubt = np.abs(expected - exact)
        gap = np.abs(found.astype("f8") - expected) - _DOUBTS * np.where(finite, doubt, 0.0)
    worst = float(gap[finite].max(initial=0.0))
    return f"differs by {worst:.2g} of {scale:.2g}" if worst > _TOLERANCE * scale + 1e-30 else None


def _answer(model: nn.Module, feed: Arrays) -> np.ndarray:
    wide = next(model.parameters()).dtype == torch.float64
    with torch.no_grad():
        said = model(*(torch.from_numpy(a.astype("f8") if wide and a.dtype.kind == "f" else a) for a in feed.values()))
    return (said if isinstance(said, torch.Tensor) else said[0]).numpy()
