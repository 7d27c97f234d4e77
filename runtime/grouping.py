"""Cuts rows that stand in order of length into batches of the least expected time.

A batch of many rows saves the fixed cost of a run and of its steps; a batch of like rows saves
padding. What is best depends on the machine, the model and the lengths, so it is a search over all
cuts (dynamic programming), by the cost that `RunCost` has learned.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from seqport.runtime.cost import RunCost

# The search may take this share of the time that the rows are expected to take ...
_SHARE = 0.03
# ... and takes about so many seconds for each place where it may cut.
_SECONDS_A_PLACE = 6e-6
# Few places cost nothing that counts, and more of them find nothing better.
_FEWEST, _MOST = 8, 256
# A batch is made of at least so many pieces between places, or the places are too coarse to choose from.
_PIECES = 4


def cuts(steps: np.ndarray, most: np.ndarray, cost: RunCost) -> list[slice]:
    """The batches of some rows, the longest first.

    Args:
        steps: of each row, ascending.
        most: rows that a batch may have whose longest row is that one, at least 1; never ascending.
        cost: of a run.

    Returns:
        Consecutive parts of the rows, which together are all of them.
    """
    total = len(steps)
    if steps[0] == steps[-1] and total <= most[-1]:
        return [slice(0, total)]
    sums = np.zeros(total + 1, steps.dtype)
    steps.cumsum(out=sums[1:])
    affordable = min(max(int(_SHARE * _about(steps, sums, most, cost) / _SECONDS_A_PLACE), _FEWEST), _MOST)
    if total > affordable and affordable * int(most[-1]) < total * _PIECES:
        return even_cuts(most)
    places = np.arange(total + 1) if total <= affordable else _places(steps, affordable)
    return _cheapest(places, steps, sums, most, cost)


def samples(steps: np.ndarray, most: int) -> Iterator[np.ndarray]:
    """Rows whose batches tell most about the cost.

    The first of them only warms the session up, which may make itself ready for ragged batches. Then come rows of all
    lengths, many of about one length, few short ones, and few long ones, so that what runs, steps, rows and padding
    cost can be told apart.

    Args:
        steps: of each row, ascending.
        most: rows that a batch may have.

    Yields:
        Indices of rows; no row comes twice.
    """
    total = len(steps)
    free = np.ones(total, bool)
    middle = total // 2
    for wanted in (
        np.linspace(total // 4, 3 * total // 4, 4).astype(np.int64),
        np.linspace(0, total - 1, min(max(total // 8, 16), 64)).astype(np.int64),
        np.arange(middle - 12, middle + 12),
        np.arange(4),
        np.arange(total - 4, total),
    ):
        some = wanted[free[wanted]][-most:]
        free[some] = False
        yield some


def _about(steps: np.ndarray, sums: np.ndarray, most: np.ndarray, cost: RunCost) -> float:
    """About the seconds that all rows take, to say how long the search may last."""
    total, longest, valid = len(steps), int(steps[-1]), int(sums[-1])
    fixed, per_step, per_row, padded, per_valid = cost.coefficients()
    return (fixed + per_step * longest) * (1 + total // int(most[-1])) + per_row * total + (padded + per_valid) * valid


def _places(steps: np.ndarray, count: int) -> np.ndarray:
    """At most about so many places to cut at: as many rows between two of them, or as much more length."""
    total, shortest = len(steps), int(steps[0])
    along = np.arange(total) / total + (steps - shortest) / max(1, int(steps[-1]) - shortest)
    place = (along * (count / 2)).astype(np.int64)
    return np.concatenate([[0], np.flatnonzero(place[1:] != place[:-1]) + 1, [total]])


def even_cuts(most: np.ndarray) -> list[slice]:
    """Batches as large as they may be, the longest rows first.

    Where there are very many rows, neighbours are alike anyway; where padding costs nothing, they need not be.
    """
    parts: list[slice] = []
    stop = len(most)
    while stop:
        start = max(0, stop - int(most[stop - 1]))
        parts.append(slice(start, stop))
        stop = start
    return parts


def _cheapest(places: np.ndarray, steps: np.ndarray, sums: np.ndarray, most: np.ndarray, cost: RunCost) -> list[slice]:
    """The cuts at some places whose batches take the least time together."""
    last = len(places) - 1
    ends = places[1:]
    # The earliest place that a batch may begin at: the one before always may, places are that close.
    first = np.searchsorted(places, ends - most[ends - 1])
    width = int((np.arange(1, last + 1) - first).max())
    # [end, candidate]: the place that a batch begins at, the nearest last.
    begin = np.arange(1, last + 1)[:, None] + np.arange(-width, 0)
    price = _prices(places, begin, steps, sums, cost)
    price[begin < first[:, None]] = np.inf
    best = np.full(width + last + 1, np.inf)  # [width + place]: the least time of all rows before it
    best[width] = 0.0
    chosen = np.empty(last, np.int64)
    for end in range(last):
        totals = best[end + 1 : end + 1 + width] + price[end]
        chosen[end] = found = totals.argmin()
        best[width + end + 1] = totals[found]
    parts: list[slice] = []
    place = last
    while place:
        before = int(begin[place - 1, chosen[place - 1]])
        parts.append(slice(int(places[before]), int(places[place])))
        place = before
    return parts


def _prices(places: np.ndarray, begin: np.ndarray, steps: np.ndarray, sums: np.ndarray, cost: RunCost) -> np.ndarray:
    """[end, candidate]: the time of the batch between two places."""
    start = places[np.maximum(begin, 0)]
    end = places[1:, None]
    rows = end - start
    fixed, per_step, per_row, padded, valid = cost.coefficients()
    longest = steps[end - 1]
    linear = fixed + per_step * longest + (per_row + padded * longest) * rows + valid * (sums[end] - sums[start])
    return linear * cost.by_rows(int(rows.max()))[rows - 1]
