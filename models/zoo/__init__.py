"""The zoo: one small model a task, trained on real data that ships inside a package, weights included."""

from __future__ import annotations

import importlib
from pathlib import Path

from seqport.models.weights import Weights
from seqport.models.zoo.task import Dataset, Recipe, Split, Task, Unit, Vocabulary, ZooError

__all__ = [
    "Dataset",
    "Recipe",
    "Split",
    "Task",
    "Unit",
    "Vocabulary",
    "ZooError",
    "get",
    "load_weights",
    "names",
    "weights_path",
]

_NAMES = ("language", "hyphenation", "digits", "forecast", "generator", "numbers", "rescale")


def names() -> tuple[str, ...]:
    """The tasks of the zoo."""
    return _NAMES


def get(name: str) -> Task:
    """The task of this name.

    Raises:
        ZooError: the zoo has no such task.
    """
    if name not in _NAMES:
        raise ZooError(f"the zoo has no task {name!r}; it has {', '.join(_NAMES)}")
    return importlib.import_module(f"{__name__}.{name}").TASK


def weights_path(name: str) -> Path:
    """Where the trained weights of a task stand."""
    return Path(__file__).parent / "weights" / f"{get(name).name}.safetensors"


def load_weights(name: str) -> Weights:
    """The trained weights of a task, as committed."""
    return Weights.load(weights_path(name), get(name).spec)
