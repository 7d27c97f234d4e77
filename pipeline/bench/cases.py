"""What the benchmark measures: networks, and the batches, lists and streams that they answer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from seqport.pipeline.errors import PipelineError

CELLS = ("lstm", "gru", "rnn")
SIZES = (64, 256, 1024)
BATCHES = (1, 8, 32, 128)
FILLS = (1.0, 0.6, 0.2)
DIRECTIONS = ("uni", "bi")
INPUT_DIM = 64
STEPS = 100
KINDS = ("batch", "stream", "list")
_SEED = 7


@dataclass(frozen=True)
class Network:
    """One recurrent layer; its weights follow from these values.

    Attributes:
        cell: "lstm", "gru" or "rnn" (tanh).
        num_hidden_units: H.
        bidirectional: both directions, joined along the features.
        with_state: takes and gives its state, and takes no lengths: for streams.
    """

    cell: str
    num_hidden_units: int
    bidirectional: bool = False
    with_state: bool = False

    @property
    def key(self) -> str:
        """Its name in files and messages."""
        return f"{self.cell}-{self.num_hidden_units}" + "-bi" * self.bidirectional + "-state" * self.with_state

    @property
    def directions(self) -> int:
        """How many layers run over a sequence."""
        return 2 if self.bidirectional else 1


@dataclass(frozen=True)
class Case:
    """One thing to answer, the same for everyone.

    Attributes:
        network: what answers.
        kind: "batch", a padded batch with lengths; "list", rows of any length, one array each; "stream", one step
            after another with the state carried.
        batch: rows.
        steps: the padded length, which the longest row has; 1 for a stream.
        fill: the share of valid steps that is aimed at. At 1 all rows are alike; from 0.5 lengths are uniform around
            their mean; below, exponential, as those of sentences and sessions are.
    """

    network: Network
    kind: str = "batch"
    batch: int = 1
    steps: int = STEPS
    fill: float = 1.0

    @property
    def key(self) -> str:
        """Its name in files and messages."""
        return f"{self.kind} {self.network.key} B={self.batch} T={self.steps} fill={self.fill:g}"


@dataclass(frozen=True)
class Inputs:
    """The arrays of a case.

    Attributes:
        x: [batch, steps, INPUT_DIM], zero after each row's length.
        lengths: [batch].
    """

    x: np.ndarray
    lengths: np.ndarray

    @property
    def valid(self) -> np.ndarray:
        """True at valid steps, [batch, steps]."""
        return np.arange(self.x.shape[1]) < self.lengths[:, np.newaxis]

    @property
    def valid_steps(self) -> int:
        """Valid steps of all rows."""
        return int(self.lengths.sum())

    @property
    def items(self) -> list[np.ndarray]:
        """The rows without their padding."""
        return [row[:length] for row, length in zip(self.x, self.lengths, strict=True)]


def draw(case: Case) -> Inputs:
    """The arrays of a case, the same in every process."""
    rng = np.random.default_rng([_SEED, case.batch, case.steps])
    lengths = draw_lengths(case.batch, case.steps, case.fill, rng)
    x = rng.standard_normal((case.batch, case.steps, INPUT_DIM), dtype=np.float32)
    x[np.arange(case.steps) >= lengths[:, np.newaxis]] = 0
    return Inputs(x, lengths)


def draw_lengths(batch: int, steps: int, fill: float, rng: np.random.Generator) -> np.ndarray:
    """Lengths [batch] from 1 to `steps`, in no order; with more than one row, one of them is `steps` long.

    Args:
        batch: rows.
        steps: the longest.
        fill: the mean that is aimed at, as a share of `steps`.
        rng: where chance comes from.
    """
    if fill == 1.0:
        return np.full(batch, steps)
    if batch == 1:
        return np.array([max(1, round(fill * steps))])
    mean = max(1 / steps, (fill * batch - 1) / (batch - 1))  # of the rows beside the longest
    if fill >= 0.5:
        drawn = rng.uniform(max(0.0, 2 * mean - 1), min(1.0, 2 * mean), batch - 1) * steps + 1e-9
    else:
        drawn = rng.exponential(mean * steps, batch - 1)
    for _ in range(8):  # chance misses the mean, and so does cutting: both are scaled away
        drawn = np.clip(drawn * mean * steps * (batch - 1) / drawn.sum(), 1, steps)
    return rng.permutation(np.append(np.rint(drawn).astype(np.int64), steps))


def grid(
    cells: Sequence[str] = CELLS,
    sizes: Sequence[int] = SIZES,
    batches: Sequence[int] = BATCHES,
    fills: Sequence[float] = FILLS,
    directions: Sequence[str] = DIRECTIONS,
    kinds: Sequence[str] = KINDS,
) -> list[Case]:
    """The cases of the grid, those of one network together.

    Raises:
        PipelineError: a value that the grid does not have.
    """
    chosen = {"cells": cells, "sizes": sizes, "batches": batches, "directions": directions, "kinds": kinds}
    for what, values in {**chosen, "fills": fills}.items():
        _require(what, values)
    found: list[Case] = []
    if "stream" in kinds:
        found += [Case(Network(c, h, with_state=True), "stream", steps=1) for c, h in product(cells, sizes)]
    for cell, size, direction in product(cells, sizes, directions):
        network = Network(cell, size, bidirectional=direction == "bi")
        if "batch" in kinds:
            found += [Case(network, batch=b, fill=fill) for b, fill in product(batches, fills)]
        if "list" in kinds and direction == "uni":
            found += _lists(network)
    return found


def _lists(network: Network) -> Iterator[Case]:
    """Long lists are for the middle size alone: what differs is the grouping, not the products."""
    if network.num_hidden_units == 256:
        yield Case(network, "list", batch=512, steps=100, fill=0.5)
        yield Case(network, "list", batch=512, steps=400, fill=0.18)


_VALUES = {
    "cells": CELLS, "sizes": SIZES, "batches": BATCHES, "fills": FILLS, "directions": DIRECTIONS, "kinds": KINDS,
}  # fmt: skip


def _require(what: str, values: Sequence[object]) -> None:
    wrong = [value for value in values if value not in _VALUES[what]]
    if wrong or not values:
        said = ", ".join(map(str, wrong)) or "nothing"
        raise PipelineError(f"{what}: {said} is not in the grid, expected some of {', '.join(map(str, _VALUES[what]))}")
