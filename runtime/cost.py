"""Learns what a batch costs on this machine from the batches that run anyway.

Nobody can say beforehand what padding costs: a kernel may compute every padded step, or skip them;
it may use all cores from some number of rows on, or fall out of the cache. So nothing is assumed.
Each run is an observation of

    seconds ≈ fixed + per_step · steps + per_row · rows + padded · rows · steps + valid · (sum of lengths)

whose coefficients, none negative, follow by least squares over relative errors. What is not linear
in the rows is a factor for each doubling of them.
"""

from __future__ import annotations

import math
import threading
from typing import Any

import numpy as np

# What is believed before anything was measured; only the ratios count, and any run outweighs it.
# Seconds: fixed, a step, a row, a padded step of a row, a valid step of a row.
_BELIEF = np.array([5e-5, 2e-6, 1e-6, 2e-7, 8e-7])
# How many observations the belief weighs, in the directions that no run has shown anything about.
_BELIEF_WEIGHT = 0.01
# An observation counts half after this many others: machines change (load, clock, other threads).
_HALF_LIFE = 150
# The factor of a number of rows: runs that "no factor" weighs, and runs that are remembered.
_DOUBT, _MEMORY = 6.0, 30.0
_DOUBLINGS = 40
# Solving takes longer than observing, so it is done once in so many runs, but for the first ones.
_REFRESH = 8
# So many runs must be seen before the cost counts as known; the first one, which also allocates, is not kept.
_ENOUGH = 3


class RunCost:
    """The cost of a run as a function of its batch. Safe to use from many threads.

    Attributes:
        runs: how many were seen.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        size = len(_BELIEF)
        self._moments = np.zeros((size, size))
        self._sums = np.zeros(size)
        self.runs = 0
        self._coefficients = _BELIEF
        self._unsolved = 0  # runs since the coefficients were solved
        self._factors = np.zeros(_DOUBLINGS)  # sums of log(measured / predicted)
        self._counts = np.zeros(_DOUBLINGS)

    @property
    def known(self) -> bool:
        """Whether enough runs were seen to plan by."""
        return self.runs > _ENOUGH

    def observe(self, rows: int, steps: int, valid: int, seconds: float) -> None:
        """Learn from one run.

        Args:
            rows: of the batch.
            steps: of its longest row.
            valid: the sum of its rows' steps.
            seconds: that it took.
        """
        if seconds <= 0:  # the clock is too coarse
            return
        with self._lock:
            self.runs += 1
            if self.runs == 1:
                return
            features = np.array([1.0, steps, rows, rows * steps, valid]) / seconds
            fade = 0.5 ** (1 / _HALF_LIFE)
            self._moments = fade * self._moments + np.outer(features, features)
            self._sums = fade * self._sums + features
            if self.runs > _ENOUGH + 1:
                expected = float(features @ self._coefficients)  # in units of what it took
                self._adjust(int(doublings(rows)), -math.log(min(max(expected, 1 / 2), 2)))
            self._unsolved += 1
            if self.runs <= 2 * _ENOUGH or self._unsolved == _REFRESH:
                self._coefficients, self._unsolved = _non_negative(*self._with_belief()), 0

    def coefficients(self) -> np.ndarray:
        """Seconds for a run, a step, a row, a padded step of a row, a valid step of a row."""
        with self._lock:
            return self._coefficients

    def factors(self) -> np.ndarray:
        """By `doublings(rows)`: how much dearer than the linear cost a batch of so many rows is."""
        with self._lock:
            return np.exp(self._factors / (self._counts + _DOUBT))

    def seconds(self, rows: Any, steps: Any, valid: Any) -> Any:
        """What a batch is expected to take; arrays give arrays."""
        fixed, per_step, per_row, padded, per_valid = self.coefficients()
        linear = fixed + per_step * steps + per_row * rows + padded * rows * steps + per_valid * valid
        return linear * self.factors()[doublings(rows)]

    def _with_belief(self) -> tuple[np.ndarray, np.ndarray]:
        """The normal equations, with the belief scaled to what was measured."""
        scale = self._sums @ _BELIEF / (_BELIEF @ self._moments @ _BELIEF)
        weight = _BELIEF_WEIGHT * np.diag(self._moments) / min(self.runs, _HALF_LIFE)
        return self._moments + np.diag(weight), self._sums + weight * scale * _BELIEF

    def _adjust(self, doubling: int, log_ratio: float) -> None:
        fade = min(1.0, _MEMORY / (self._counts[doubling] + 1))
        self._factors[doubling] = fade * (self._factors[doubling] + log_ratio)
        self._counts[doubling] = fade * (self._counts[doubling] + 1)


def doublings(rows: Any) -> Any:
    """1 → 0, 2 → 1, 3 and 4 → 2, 5 to 8 → 3: a power of two is the last of its kind."""
    return np.ceil(np.log2(rows)).astype(np.int64)


def _non_negative(moments: np.ndarray, sums: np.ndarray) -> np.ndarray:
    """Least squares without negative coefficients: the most negative one is left out until there is none."""
    scale = 1 / np.sqrt(np.diag(moments))  # steps and seconds differ by orders of magnitude
    moments, sums = moments * np.outer(scale, scale), sums * scale
    kept = np.arange(len(sums))
    while True:
        found = np.linalg.solve(moments[np.ix_(kept, kept)], sums[kept])
        if len(kept) == 1 or found.min() >= 0:
            break
        kept = np.delete(kept, found.argmin())
    coefficients = np.zeros(len(sums))
    coefficients[kept] = np.maximum(found, 0)
    return coefficients * scale
