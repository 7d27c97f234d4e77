"""Real padded batches for every part of a zoo model, in shapes that no export ever saw."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from seqport.models import Part, Weights, oracle
from seqport.models.zoo import Split, Task
from seqport.models.zoo.task import PADDING, START
from seqport.pipeline.layout import Arrays, Layout, padding_of

# The rows of a batch, and its steps as a share of the longest row's. Exporters trace and probe at 3, 5 and 19
# rows of 13, 19 and 23 steps: no batch has such a size, some are smaller and some larger. More steps than in
# real rows come with the padding checks.
SHAPES = ((1, 0.0), (1, 1.0), (2, 0.3), (7, 0.6), (33, 1.0), (200, 1.0))
# The batch that is run again with its padding changed: every length, and few enough rows for the slowest runner.
_PADDING_ROWS = 33


class Batch(NamedTuple):
    """A padded batch."""

    inputs: Arrays
    rows: int
    steps: int

    @property
    def name(self) -> str:
        """What to call it in messages."""
        return f"batch {self.rows} × {self.steps}"


def batches(
    task: Task, weights: Weights, shapes: Sequence[tuple[int, float]] = SHAPES, seed: int = 0
) -> Iterator[tuple[Part, list[Batch]]]:
    """Every part of a task with its batches.

    The rows are those of the test split, some of them cut short, which leaves them real: the beginning of a
    word, the first rows of an image. Rows are in no order of length; every batch has a row without padding,
    and with more than one row also one of a single step.

    Args:
        task: whose data it is.
        weights: of its model, which gives a decoder the states that it starts from.
        shapes: the rows of each batch, and its steps as a share of the longest row's.
        seed: of the choice of rows.
    """
    test = task.load().test
    for part, rows in _rows(task, weights, test):
        layout, rng = Layout.of(part), np.random.default_rng(seed)
        longest = layout.steps(rows)
        sizes = dict.fromkeys((size, max(1, round(share * longest))) for size, share in shapes)
        yield part, [_batch(rows, layout, size, steps, rng) for size, steps in sizes]


def for_padding(several: list[Batch]) -> Batch:
    """The batch for the padding checks."""
    return next(batch for batch in several if batch.rows == _PADDING_ROWS)


def _rows(task: Task, weights: Weights, test: Split) -> Iterator[tuple[Part, dict[str, np.ndarray]]]:
    """The inputs of each part: for a decoder the true answer, one step late, and the encoder's final states."""
    first, *others = task.spec.parts()
    rows = dict(test.inputs)
    finals = oracle.run(first, weights, rows)
    if first.initial_state:  # a state that another row ended in, because a zero state would hide what becomes of it
        rows |= {name: np.roll(state, 1, axis=1) for name, state in _initial(first, finals).items()}
    yield first, rows
    for decoder in others:
        start = np.full((len(test), 1), task.answers.index(START))
        ids = np.concatenate([start, test.targets[:, :-1]], axis=1)
        lengths = (test.targets != PADDING).sum(axis=1)
        yield decoder, {"ids": ids, "lengths": lengths, **_initial(decoder, finals)}


def _initial(part: Part, finals: Arrays) -> dict[str, np.ndarray]:
    return {f"{state}_0": finals[f"{state}_T"].astype(np.float32) for state in part.states}


def _batch(rows: Arrays, layout: Layout, size: int, steps: int, rng: np.random.Generator) -> Batch:
    chosen = rng.permutation(len(rows[layout.lengths]))[:size]
    chosen[size // 2] = rng.choice(np.flatnonzero(rows[layout.lengths] >= steps))
    batch = layout.take_inputs(rows, chosen)
    if layout.open_steps:
        batch = layout.resize_inputs(batch, steps)
    lengths = np.minimum(batch[layout.lengths], steps)
    if size > 1:
        lengths[0] = 1
    batch[layout.lengths] = lengths
    for name, place in layout.inputs.items():
        batch[name][padding_of(batch[name], place, lengths)] = 0
    return Batch(batch, size, steps)
