"""Learns what a batch costs on this machine from the batches that run anyway.

Nobody can say beforehand what padding costs: a kernel may compute every padded step, or skip them;
it may use all cores from some number of rows on, or fall out of the cache. So nothing is assumed.
Each run is an observation of

    seconds ≈ fixed + per_step · steps + per_row · rows + padded · rows · steps + valid · (sum of lengths)

whose coefficients, none negative, follow by least squares over relative errors. What is not linear
in the rows is a factor for each doubling of them.
"""

from __future__ import annotations

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
# The factor of a number of rows: how many runs "as all others" weighs, and after how many a run counts half.
_DOUBT, _RETRY = 6.0, 100
_DOUBLINGS = 40
# Solving takes longer than observing, so in the end it is done once in so many runs.
_REFRESH = 24
# So many runs must be seen before the cost counts as known; the first one, which also allocates, is not kept.
_ENOUGH = 4


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
        self._plain = tuple(_BELIEF.tolist())
        self._seen: list[tuple[int, int, int, float]] = []  # runs since the coefficients were solved
        self._factors = np.zeros(_DOUBLINGS)  # sums of log(measured / predicted)
        self._counts = np.zeros(_DOUBLINGS)
        self._by_rows = np.empty(0)  # made when somebody asks

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
            self._seen.append((rows, steps, valid, seconds))
            if len(self._seen) > min(self.runs // 8, _REFRESH):
                self._learn()

    def _learn(self) -> None:
        """Take in the runs that were seen since the last time, and solve anew."""
        rows, steps, valid, seconds = np.array(self._seen).T
        self._seen.clear()
        # [run, feature], in units of what each run took.
        features = np.stack([np.ones(len(rows)), steps, rows, rows * steps, valid], 1) / seconds[:, None]
        if self.runs > _ENOUGH + 1:
            # Also where no run was: what was found slow once is worth another try after a while.
            fade = 0.5 ** (len(rows) / _RETRY)
            ratios = -np.log(np.clip(features @ self._coefficients, 1 / 2, 2))
            self._factors = fade * self._factors + np.bincount(doublings(rows), ratios, _DOUBLINGS)
            self._counts = fade * self._counts + np.bincount(doublings(rows), minlength=_DOUBLINGS)
        fade = 0.5 ** (len(rows) / _HALF_LIFE)
        self._moments = fade * self._moments + features.T @ features
        self._sums = fade * self._sums + features.sum(0)
        self._coefficients = _non_negative(*self._with_belief())
        self._plain = tuple(self._coefficients.tolist())
        self._by_rows = np.empty(0)

    def coefficients(self) -> tuple[float, ...]:
        """Seconds for a run, a step, a row, a padded step of a row, a valid step of a row."""
        return self._plain

    def by_rows(self, most: int) -> np.ndarray:
        """How much dearer than the linear cost a batch of so many rows is: of 1 row, 2 rows, to at least `most`."""
        with self._lock:
            if len(self._by_rows) < most:
                size = max(most, 256)
                common = self._factors.sum() / (self._counts.sum() + _DOUBT)
                factors = np.exp((self._factors + _DOUBT * common) / (self._counts + _DOUBT))
                self._by_rows = factors[doublings(np.arange(1, size + 1))]
            return self._by_rows

    def seconds(self, rows: Any, steps: Any, valid: Any) -> Any:
        """What a batch is expected to take; arrays give arrays."""
        fixed, per_step, per_row, padded, per_valid = self.coefficients()
        linear = fixed + per_step * steps + per_row * rows + padded * rows * steps + per_valid * valid
        return linear * self.by_rows(int(np.max(rows)))[np.asarray(rows) - 1]

    def _with_belief(self) -> tuple[np.ndarray, np.ndarray]:
        """The normal equations, with the belief scaled to what was measured."""
        scale = self._sums @ _BELIEF / (_BELIEF @ self._moments @ _BELIEF)
        weight = _BELIEF_WEIGHT * np.diag(self._moments) / min(self.runs, _HALF_LIFE)
        return self._moments + np.diag(weight), self._sums + weight * scale * _BELIEF


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
