"""Batches as plain data: the steps of each row, the padded axis, and a seed for the values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

from seqport.exporters import Input

VOCABULARY = 5


@dataclass(frozen=True)
class Batch:
    """One padded batch; its rows have 1 to `seq` steps."""

    lengths: tuple[int, ...]
    seq: int
    seed: int = 0

    def arrays(self, inputs: Sequence[Input], *, sorted_rows: bool = False) -> dict[str, np.ndarray]:
        """Random values for inputs with the axes "batch" and "seq"; ids below VOCABULARY, 0 among them."""
        random = np.random.default_rng(self.seed)
        sizes = {"batch": len(self.lengths), "seq": self.seq}
        lengths = sorted(self.lengths, reverse=True) if sorted_rows else self.lengths
        arrays: dict[str, np.ndarray] = {}
        for item in inputs:
            shape = item.shape(sizes)
            if item.name == "lengths":
                values = np.array(lengths)
            elif item.dtype == "bool":
                values = random.random(shape) < 0.6
            elif item.dtype.startswith("int"):
                values = random.integers(0, VOCABULARY, shape)
            else:
                values = random.standard_normal(shape)
            arrays[item.name] = values.astype(item.dtype)
        return arrays


@st.composite
def _batches(draw: st.DrawFn) -> Batch:
    seq = draw(st.integers(1, 12))
    lengths = draw(st.lists(st.integers(1, seq), min_size=1, max_size=5))
    return Batch(tuple(lengths), seq, draw(st.integers(0, 99)))


def several() -> st.SearchStrategy[list[Batch]]:
    """A few batches, among them always a single row of a single step, and lengths of 1 and all, not in order."""
    always = [Batch((1,), 1), Batch((2, 7, 1, 5), 7)]
    return st.lists(_batches(), min_size=1, max_size=3).map(lambda drawn: always + drawn)
