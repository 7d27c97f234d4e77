"""What each row has generated so far."""

from __future__ import annotations

import numpy as np


class Written:
    """Rows that grow by one value a step, each for itself.

    Args:
        like: one value a row, [rows] or [rows, out_dim]: what they look like.
        max_steps: no row gets longer.

    Attributes:
        steps: how many values each row has.
    """

    def __init__(self, like: np.ndarray, max_steps: int) -> None:
        self._max_steps = max_steps
        self._values = np.empty((len(like), min(16, max_steps), *like.shape[1:]), like.dtype)
        self.steps = np.zeros(len(like), np.int64)

    def __getitem__(self, row: int) -> np.ndarray:
        """A view of one row, which cannot be written to."""
        values = self._values[row, : self.steps[row]]
        values.flags.writeable = False
        return values

    def append(self, rows: np.ndarray, values: np.ndarray) -> None:
        """One value to each of these rows."""
        steps = self.steps[rows]
        if len(rows) and steps.max() == self._values.shape[1]:
            self._grow()
        self._values[rows, steps] = values
        self.steps[rows] += 1

    def rows(self) -> list[np.ndarray]:
        """All rows, as arrays of their own."""
        return [values[:steps].copy() for values, steps in zip(self._values, self.steps, strict=True)]

    def _grow(self) -> None:
        count, room, *features = self._values.shape
        more = np.empty((count, min(room, self._max_steps - room), *features), self._values.dtype)
        self._values = np.concatenate([self._values, more], 1)
