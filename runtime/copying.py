"""Copies of many views, shared among threads: alone, a core spends most of a copy waiting for memory."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np

# A thread with less to copy than that would take as long to start.
_WORTH = 1 << 20  # bytes
# More do not make memory faster.
_MOST = 4


def copies(views: Sequence[np.ndarray], threads: int) -> list[np.ndarray]:
    """A copy of each view, in C order.

    Args:
        views: of any shapes.
        threads: so many may copy, this one among them. NumPy lets go of Python's lock while it copies.
    """
    if threads == 1:
        return [view.copy() for view in views]
    ends = np.cumsum([view.nbytes for view in views])
    threads = min(threads, _MOST, int(ends[-1]) // _WORTH if len(ends) else 0)
    if threads < 2:
        return [view.copy() for view in views]
    # Each has a run of views, of about as many bytes as the others.
    bounds = np.searchsorted(ends, ends[-1] * np.arange(1, threads) // threads).tolist()
    parts = [slice(start, end) for start, end in zip([0, *bounds], [*bounds, len(views)], strict=True)]
    found: list[list[np.ndarray]] = [[] for _ in parts]
    failures: list[BaseException] = []

    def copy(place: int) -> None:
        try:
            found[place] = [view.copy() for view in views[parts[place]]]
        except BaseException as error:  # no memory, say; raised below, in the caller's thread
            failures.append(error)

    helpers = [threading.Thread(target=copy, args=(place,), name="seqport-copy") for place in range(1, len(parts))]
    for helper in helpers:
        helper.start()
    copy(0)
    for helper in helpers:
        helper.join()
    if failures:
        raise failures[0]
    return [array for part in found for array in part]
