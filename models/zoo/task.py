"""What every zoo task is made of: a spec, real data in two splits, and how its outputs become answers."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Literal

import numpy as np

from seqport.errors import SeqportError
from seqport.models.spec import ModelSpec

PADDING = 0  # the padding token's id in every vocabulary
START, END = "<start>", "<end>"  # what stands before and after a sequence that a model writes itself
STATES = ("h_0", "c_0")  # [layers * directions, batch, hidden]: the only inputs whose batch axis is the second

ScoreName = Literal["accuracy", "exact match", "mean absolute error"]


class ZooError(SeqportError, LookupError):
    """A task that the zoo does not have, or one whose data package is not installed."""


@dataclass(frozen=True)
class Vocabulary:
    """The tokens of a task; a token's id is its place, and the first one is the padding."""

    tokens: tuple[str, ...]

    @classmethod
    def of(cls, tokens: Iterable[str]) -> Vocabulary:
        """The padding token, then these."""
        return cls(("<pad>", *tokens))

    def __len__(self) -> int:
        return len(self.tokens)

    def covers(self, tokens: Iterable[str]) -> bool:
        """Whether every token has an id."""
        return set(tokens) <= set(self.tokens[1:])

    def encode(self, tokens: Iterable[str]) -> list[int]:
        """The ids of tokens; a word is the tokens of its characters."""
        places = {token: place for place, token in enumerate(self.tokens)}
        return [places[token] for token in tokens]

    def decode(self, ids: Iterable[int]) -> list[str]:
        """The tokens of ids, without the padding."""
        return [self.tokens[i] for i in ids if i != PADDING]


@dataclass(frozen=True)
class Unit:
    """The unit in which a regression answers: `output * scale + offset`, to the nearest whole `step`.

    Models learn in a scale where values are near one; answers are given, compared and scored as whole
    steps of the unit, because a measurement has no finer meaning than its instrument.
    """

    name: str
    scale: float
    offset: float
    step: float

    def to_output(self, values: np.ndarray) -> np.ndarray:
        """Values in this unit as the model's outputs, float32."""
        return ((np.asarray(values, np.float64) - self.offset) / self.scale).astype(np.float32)

    def in_steps(self, outputs: np.ndarray) -> np.ndarray:
        """The model's outputs in steps of this unit, not yet rounded, float64."""
        return (np.asarray(outputs, np.float64) * self.scale + self.offset) / self.step


@dataclass(frozen=True)
class Split:
    """Padded rows: `inputs` as the task's first part takes them, `targets` as its outputs should be.

    Targets are class ids [batch] or token ids [batch, seq] (softmax), 0 or 1 [batch, seq, out_dim]
    (sigmoid), or outputs in the model's scale [batch, out_dim] (regression).
    """

    inputs: Mapping[str, np.ndarray]
    targets: np.ndarray

    @property
    def lengths(self) -> np.ndarray:
        """The steps that count in each row, [batch]."""
        return self.inputs["lengths"]

    def __len__(self) -> int:
        return len(self.targets)

    def take(self, rows: np.ndarray | slice) -> Split:
        """Some of the rows, in the order asked for."""
        inputs = {name: array[:, rows] if name in STATES else array[rows] for name, array in self.inputs.items()}
        return Split(inputs, self.targets[rows])


@dataclass(frozen=True)
class Dataset:
    """The rows to learn from, and the rows never learned from on which the score is measured."""

    train: Split
    test: Split

    @classmethod
    def held_out(cls, rows: Split, test_size: int, seed: int = 0) -> Dataset:
        """Hold out rows of every length, the shortest and the longest among them.

        Sorted by length (a seeded shuffle decides among equals), the test rows stand at equal distances
        from the first to the last, so that their lengths are spread as those of all rows.
        """
        rng = np.random.default_rng(seed)
        shuffled = rng.permutation(len(rows))
        by_length = shuffled[np.argsort(rows.lengths[shuffled], kind="stable")]
        test = by_length[np.linspace(0, len(rows) - 1, test_size).round().astype(int)]
        train = np.setdiff1d(by_length, test)
        return cls(rows.take(train), rows.take(rng.permutation(test)))


@dataclass(frozen=True)
class Recipe:
    """How the trainer trains a task."""

    epochs: int
    batch_size: int = 128
    learning_rate: float = 1e-2
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Task:
    """One model of the zoo: what it is, what it learns from, and how its answers are judged."""

    name: str
    spec: ModelSpec
    summary: str
    source: str  # the data, and the package it ships in
    packages: tuple[str, ...]  # what the data depends on, by distribution name
    load: Callable[[], Dataset]
    score_name: ScoreName
    recipe: Recipe
    vocabulary: Vocabulary | None = None  # of the ids that go in
    answers: tuple[str, ...] = ()  # what the classes that come out are called
    unit: Unit | None = None  # of a regression's answers


def pad(rows: Sequence[Sequence[Any] | np.ndarray], seq_max_len: int, dtype: type = np.int64) -> dict[str, np.ndarray]:
    """Rows of different lengths as one zero-padded array.

    Args:
        rows: token ids [length] or features [length, input_dim] each.
        seq_max_len: the size of the padded axis.
        dtype: of the array.

    Returns:
        `ids` [batch, seq] or `x` [batch, seq, input_dim], and `lengths` [batch].
    """
    lengths = np.array([len(row) for row in rows], np.int64)
    features = np.asarray(rows[0]).shape[1:]
    padded = np.zeros((len(rows), seq_max_len, *features), dtype)
    for row, values in zip(padded, rows, strict=True):
        row[: len(values)] = values
    return {"x" if features else "ids": padded, "lengths": lengths}


def data_package(name: str) -> ModuleType:
    """Import a package that ships data, when the data is asked for.

    Raises:
        ZooError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ZooError(f"the data ships in {name!r}, which is not installed: pip install 'seqport[zoo]'") from error
