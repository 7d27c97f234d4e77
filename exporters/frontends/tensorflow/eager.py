"""Eager execution, also for a caller who works in a graph or has switched it off, as TF 1 programs do."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from tensorflow.python.eager import context  # tf.init_scope does not leave a plain tf.Graph, and has no public sibling

P = ParamSpec("P")
R = TypeVar("R")


def eager(function: Callable[P, R]) -> Callable[P, R]:
    """The function, run eagerly: tf.function, SavedModels and arrays need it."""

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        with context.eager_mode():
            return function(*args, **kwargs)

    return run
