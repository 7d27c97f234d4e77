"""Copies of many large views, shared among threads: alone, a core spends most of a copy waiting for memory."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np

# NumPy lets go of Python's lock for each copy; where copies are shorter, threads wait for that lock instead.
_LARGE = 1 << 17  # bytes of a view, in the mean
_WORTH = 1 << 22  # bytes of a thread
# More do not make memory faster.
_MOST = 4


def copies(views: Sequence[np.ndarray], threads: int) -> list[np.ndarray]:
    """A copy of each view, in C order.

    Args:
        views: of any shapes.
        threads: so many may copy, this one among them.
    """
    bounds = _bounds(views, threads) if threads > 1 else []
    if not bounds:
        return [view.copy() for view in views]
    found: list[np.ndarray | None] = [None] * len(views)
    failures: list[BaseException] = []

    def copy(part: slice) -> None:
        try:
            found[part] = [view.copy() for view in views[part]]
        except BaseException as error:  # no memory, say; raised below, in the caller's thread
            failures.append(error)

    parts = [slice(start, end) for start, end in zip([0, *bounds], [*bounds, len(views)], strict=True)]
    helpers: list[threading.Thread] = []
    for part in parts[1:]:
        helper = threading.Thread(target=copy, args=(part,), name="seqport-copy")
        try:
            helper.start()
        except RuntimeError:  # the process may start no more, or ends
            copy(part)
        else:
            helpers.append(helper)
    copy(parts[0])
    for helper in helpers:
        helper.join()
    if failures:
        raise failures[0]
    return found  # type: ignore[return-value] - each part has filled in its own


def _bounds(views: Sequence[np.ndarray], threads: int) -> list[int]:
    """Where the parts of all threads but the first begin, each with about as many bytes; none where one is enough."""
    ends = np.cumsum([view.nbytes for view in views])
    total = int(ends[-1]) if len(ends) else 0
    if total < _LARGE * len(views):
        return []
    threads = min(threads, _MOST, total // _WORTH)
    return np.searchsorted(ends, total * np.arange(1, threads) // max(1, threads)).tolist()
