"""The cuts between batches are those of the least expected time, within the bounds."""

from __future__ import annotations

from itertools import combinations, pairwise

import numpy as np
import pytest

from seqport.runtime.cost import RunCost, doublings
from seqport.runtime.grouping import cuts, samples


class Known(RunCost):
    """A cost that is given: for a run, a step, a row, a padded step, a valid step; and by doublings of rows."""

    def __init__(self, *coefficients: float, factors: tuple[float, ...] = ()) -> None:
        super().__init__()
        self._given = coefficients
        self._dearer = np.ones(40)
        self._dearer[: len(factors)] = factors

    def coefficients(self) -> tuple[float, ...]:
        return self._given

    def by_rows(self, most: int) -> np.ndarray:
        return self._dearer[doublings(np.arange(1, most + 1))]


PADDED = Known(1e-4, 1.6e-5, 0, 4.4e-6, 0)
PACKED = Known(2e-4, 2e-5, 0, 0, 5e-6)


def _time(parts, steps: np.ndarray, cost: RunCost) -> float:
    return sum(float(cost.seconds(len(steps[part]), steps[part][-1], steps[part].sum())) for part in parts)


def _best(steps: np.ndarray, most: np.ndarray, cost: RunCost) -> float:
    """The least time of all ways to cut, by trying them all."""
    total = len(steps)
    times = []
    for count in range(total):
        for inner in combinations(range(1, total), count):
            ends = [0, *inner, total]
            parts = [slice(a, b) for a, b in pairwise(ends)]
            if all(part.stop - part.start <= most[part.stop - 1] for part in parts):
                times.append(_time(parts, steps, cost))
    return min(times)


@pytest.mark.parametrize("seed", range(12))
def test_no_other_cuts_are_better(seed) -> None:
    random = np.random.default_rng(seed)
    steps = np.sort(random.integers(1, 200, 10))
    most = np.sort(random.integers(1, 11, 10))[::-1] if seed % 2 else np.full(10, 10)
    cost = Known(*random.uniform(0, [3e-2, 3e-4, 1e-4, 1e-4, 1e-4]), factors=tuple(random.uniform(0.7, 1.5, 5)))
    parts = cuts(steps, most, cost)
    assert sorted(i for part in parts for i in range(len(steps))[part]) == list(range(10))
    assert all(part.stop - part.start <= most[part.stop - 1] for part in parts)
    assert _time(parts, steps, cost) == pytest.approx(_best(steps, most, cost), rel=1e-12)


def test_dear_padding_is_cut_and_free_padding_is_not() -> None:
    steps = np.arange(1, 101)
    most = np.full(100, 128)
    assert len(cuts(steps, most, PACKED)) == 1
    assert len(cuts(steps, most, PADDED)) > 2


def test_rows_of_one_length_share_a_batch() -> None:
    assert cuts(np.full(50, 7), np.full(50, 64), PADDED) == [slice(0, 50)]
    assert sum(part.stop - part.start for part in cuts(np.full(50, 7), np.full(50, 20), PADDED)) == 50


def test_the_longest_batch_comes_first() -> None:
    """The memory that it takes serves all others."""
    parts = cuts(np.arange(1, 101), np.full(100, 30), PADDED)
    assert parts[0].stop == 100 and [part.stop for part in parts] == sorted((p.stop for p in parts), reverse=True)


@pytest.mark.parametrize("total", [1, 2, 63, 1000, 5000])
@pytest.mark.parametrize("most", [1, 7, 128, 10_000])
def test_many_rows_are_all_there_and_bounded(total, most) -> None:
    steps = np.sort(np.random.default_rng(total).integers(1, 300, total))
    bound = np.minimum(most, np.maximum(1, 3000 // steps))  # the memory that is there allows less of the long ones
    for cost in (PADDED, PACKED, Known(1e-9, 0, 0, 1e-9, 0)):
        parts = cuts(steps, bound, cost)
        assert sorted((part.start, part.stop) for part in parts)[0][0] == 0
        assert sum(part.stop - part.start for part in parts) == total
        ends = sorted(part.stop for part in parts)
        assert ends[:-1] == sorted(part.start for part in parts)[1:]
        assert all(part.stop - part.start <= bound[part.stop - 1] for part in parts)


def test_coarse_places_cost_little() -> None:
    """Where there are more rows than places, the cuts come close to those over all rows."""
    steps = np.sort(np.clip(np.random.default_rng(0).exponential(30, 3000), 1, 400).astype(np.int64))
    most = np.full(3000, 128)
    coarse = _time(cuts(steps, most, PADDED), steps, PADDED)
    even = _time([slice(start, start + 64) for start in range(0, 3000, 64)], steps, PADDED)
    assert coarse < 0.97 * even


def test_samples_are_apart_and_differ() -> None:
    steps = np.sort(np.random.default_rng(0).integers(1, 100, 64))
    some = list(samples(steps, 128))
    taken = np.concatenate(some)
    assert len(set(taken.tolist())) == len(taken)
    ragged = steps[some[1]]
    assert ragged.min() < 0.3 * ragged.max()
    assert steps[some[2]].min() > 0.5 * steps[some[2]].max() and len(some[2]) >= 12
    assert steps[some[3]].max() < 0.2 * steps[some[4]].min()
    assert all(len(part) <= 5 for part in samples(steps, 5))
