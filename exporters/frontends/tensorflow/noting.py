"""TensorFlow on real tensors, whose sizes note what the user's own code compares them with.

A trace knows no dynamic size: `x.shape[1]` is None there, and `if x.shape[1] is not None and x.shape[1] > 400` takes
one side for good. A size that is asked of a tensor (`tf.shape`) is a tensor itself, and stays in the graph.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import tensorflow as tf

from seqport.exporters.capture import Arrays
from seqport.exporters.comparisons import Notes
from seqport.exporters.frontends.noting import noted
from seqport.exporters.frontends.noting.recording import called_by_user
from seqport.exporters.frontends.noting.running import NotedRuns
from seqport.exporters.frontends.patching import replaced
from seqport.exporters.frontends.tensorflow.functions import functions_run_in_python


@contextmanager
def sizes_noted() -> Iterator[None]:
    """Within this block the sizes in a tensor's shape note, where the user's own code asks for them."""
    with functions_run_in_python(), ExitStack() as stack:
        for name in ("__getitem__", "__iter__", "as_list", "num_elements"):
            stack.enter_context(replaced(tf.TensorShape, name, _of_users(getattr(tf.TensorShape, name))))
        yield


def _of_users(original: Callable[..., Any]) -> Callable[..., Any]:
    def patched(*args: Any) -> Any:
        found = original(*args)
        return sizes_in(found) if called_by_user() else found

    return patched


def sizes_in(found: Any) -> Any:
    """Sizes, and unknown ones, as numbers that note."""
    if type(found) is int:
        return noted.size(found)
    if isinstance(found, (list, tuple)):
        return type(found)(map(sizes_in, found))
    return map(sizes_in, found) if isinstance(found, Iterator) else found


def noted_run(runs: NotedRuns, run: Callable[[], dict[str, np.ndarray]], arrays: Arrays) -> Notes:
    """What one run notes; the largest tensor that is known is an input or an output."""
    largest = [array.size for array in arrays.values()]

    def counted() -> None:
        largest.extend(array.size for array in run().values())

    return runs.notes(counted)._replace(largest=max(largest, default=0))
