"""What a batch costs with its padding and without it, from what the layers of a model were measured to cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

# The batch sizes at which the native node is measured; between them a step's cost is taken as linear.
ROWS = (1, 8, 64)
# A gain below that is within what two measurements differ by.
_GAIN = 0.95
# What a batch may cost more packed where it is not known whether it has padding.
_FREE = 1.05


@dataclass(frozen=True)
class LayerCost:
    """Seconds, for one direction of one layer.

    Attributes:
        padded: of one step of the native node, at each of ROWS.
        call: packed, of a run without its steps.
        step: packed, of a step, whatever its rows.
        row: packed, of one row's step.
        piece: packed, of cutting once more.
        cell: packed, of one row's step in the padded batch, computed or not: it is laid out again at the end.
        ended: of one step of the native node where all rows but one have ended, at each of ROWS: an RNN leaves most of
            them out itself, an LSTM hardly any. Left out, it is as `padded`.
    """

    padded: tuple[float, ...]
    call: float
    step: float
    row: float
    piece: float
    cell: float = 0.0
    ended: tuple[float, ...] = ()

    def of_a_step(self, rows: int) -> float:
        """Seconds of a step of so many rows, packed."""
        return self.step + self.row * rows


class BatchCost:
    """Of all layers of a model that are packed together.

    Args:
        layers: one a direction.
    """

    def __init__(self, layers: Sequence[LayerCost]) -> None:
        self._padded = _sums([layer.padded for layer in layers])
        self._ended = _sums([layer.ended or layer.padded for layer in layers])
        self._call, self._step, self._row, piece, self._cell = (
            sum(getattr(layer, name) for layer in layers) for name in ("call", "step", "row", "piece", "cell")
        )
        # Pieces of the best width waste as much on rows that end inside them as they cost; see rewriting/pieces.
        self.increment = math.sqrt(2 * piece / self._row)
        self._cuts = math.sqrt(2 * piece * self._row)

    def packing_pays(self, rows: int, steps: int, total: int) -> bool:
        """Whether a batch is cheaper packed.

        Args:
            rows: of the batch.
            steps: of its longest row.
            total: steps of all rows.
        """
        # √(rows · steps) bounds what the plan of the pieces sums up, and what it leaves out of it is the last piece's.
        cuts = self._cuts * math.sqrt(rows * steps) if total < rows * steps else 0.0
        packed = self._call + self._step * steps + self._row * total + self._cell * rows * steps + cuts
        full, ended = _between(self._padded, rows), _between(self._ended, rows)
        # Of the steps of all rows but the longest, the share that is padding.
        padding = (rows * steps - total) / max((rows - 1) * steps, 1)
        return packed < _GAIN * steps * (full - max(full - ended, 0.0) * padding)

    def packing_is_free(self, rows: int, steps: int) -> bool:
        """Whether a batch costs next to nothing more packed even where no step of it is padding."""
        packed = self._call + self._step * steps + (self._row + self._cell) * rows * steps
        return packed < _FREE * steps * _between(self._padded, rows)


def _sums(costs: Sequence[tuple[float, ...]]) -> list[float]:
    return [sum(several) for several in zip(*costs, strict=True)]


def _between(costs: Sequence[float], rows: int) -> float:
    """What so many rows cost, from what each of ROWS does."""
    for place in range(1, len(ROWS) - 1):
        if rows < ROWS[place]:
            break
    else:
        place = len(ROWS) - 1
    low, high = ROWS[place - 1], ROWS[place]
    cost, more = costs[place - 1], costs[place]
    return cost + (more - cost) * (rows - low) / (high - low)
