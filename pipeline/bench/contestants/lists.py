"""How else a list of rows can be answered: padded to the longest of each batch, or sorted into fixed buckets."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from seqport.pipeline.bench.cases import INPUT_DIM, Case, Inputs, Network
from seqport.pipeline.bench.contestants.entry import Prepared
from seqport.pipeline.bench.contestants.sessions import Run, artifact_path, plain_run
from seqport.runtime import Session

_ROWS = 64  # rows a batch, which is also what `predict` takes at most by default
# Upper ends of the buckets, in steps; beyond the last one the list's longest row is the end.
_ENDS = (8, 16, 32, 64, 128, 256, 512)

Items = Sequence[np.ndarray]


class _OfGroups(ABC):
    """Groups a list, pads each group, runs it, and trims the answers into the list's order."""

    def __init__(self, network: Network, folder: Path) -> None:
        self.run = self.open(artifact_path(folder, network))

    def open(self, path: Path) -> Run:
        """What runs a padded batch."""
        return Session(path, "cpu").run

    @abstractmethod
    def groups(self, items: Items) -> Iterator[tuple[list[int], int]]:
        """Indices of rows that share a batch, and its padded length."""

    def prepare(self, case: Case, inputs: Inputs) -> Prepared:
        """Lay the inputs out."""
        del case
        items = inputs.items
        return Prepared(lambda: self.predict(items), lambda: np.concatenate(self.predict(items)))

    def predict(self, items: Items) -> list[np.ndarray]:
        """The answers in the items' order, each of its own length."""
        answers: list[np.ndarray] = [np.empty(0)] * len(items)
        for indices, steps in self.groups(items):
            x = np.zeros((len(indices), steps, INPUT_DIM), np.float32)
            lengths = np.array([len(items[index]) for index in indices])
            for row, index in enumerate(indices):
                x[row, : lengths[row]] = items[index]
            y = self.run({"x": x, "lengths": lengths})["y"]
            for row, index in enumerate(indices):
                answers[index] = y[row, : lengths[row]].copy()  # a view would keep the whole batch
        return answers


class Longest(_OfGroups):
    """Batches in the order of arrival, each padded to its longest row."""

    def groups(self, items: Items) -> Iterator[tuple[list[int], int]]:
        """See the base."""
        for start in range(0, len(items), _ROWS):
            indices = list(range(start, min(start + _ROWS, len(items))))
            yield indices, max(len(items[index]) for index in indices)


class Buckets(_OfGroups):
    """Rows sorted into buckets by fixed ends, each batch padded to the end of its bucket."""

    def groups(self, items: Items) -> Iterator[tuple[list[int], int]]:
        """See the base."""
        longest = max(map(len, items))
        buckets: dict[int, list[int]] = {}
        for index, item in enumerate(items):
            end = next((end for end in _ENDS if len(item) <= end), longest)
            buckets.setdefault(min(end, longest), []).append(index)
        for end, indices in buckets.items():
            for start in range(0, len(indices), _ROWS):
                yield indices[start : start + _ROWS], end


class _OnNode(_OfGroups):
    """The same on ONNX Runtime's own session."""

    open: Callable[[Path], Run] = staticmethod(plain_run)  # type: ignore[assignment]


class LongestNode(_OnNode, Longest):
    """Padded to the longest, on the padded node."""


class BucketsNode(_OnNode, Buckets):
    """Fixed buckets, on the padded node."""
