"""A user's own tf.functions while a model is traced or looked into: what they traced before stays as it was.

Within a trace recurrent layers become operations that TensorFlow cannot run. A tf.function that the model calls would
keep such a trace and fail when it is called again; and one that was called before has a trace of the layers' own loops.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tensorflow.python.eager.polymorphic_function.polymorphic_function import Function

from seqport.exporters.frontends.patching import replaced


@contextmanager
def functions_traced_afresh() -> Iterator[None]:
    """Within this block a call of a tf.function traces a copy of it."""
    original = Function.__call__

    def call(function: Any, *args: Any, **kwargs: Any) -> Any:
        # A loaded function is of a kind of its own, and has no Python to trace.
        own = type(function) is Function
        return original(function._clone(function.python_function) if own else function, *args, **kwargs)

    with replaced(Function, "__call__", call):
        yield


@contextmanager
def functions_run_in_python() -> Iterator[None]:
    """Within this block a call of a tf.function runs the user's Python, unless its signature says what that sees."""
    original = Function.__call__

    def call(function: Any, *args: Any, **kwargs: Any) -> Any:
        plain = type(function) is Function and function.input_signature is None
        return function.python_function(*args, **kwargs) if plain else original(function, *args, **kwargs)

    with replaced(Function, "__call__", call):
        yield
