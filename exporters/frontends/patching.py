"""Change a framework for a while, for this thread alone."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_MISSING = object()

# Tracing changes classes and functions that the whole process shares, so one export runs at a time.
LOCK = threading.RLock()


@contextmanager
def attribute(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Within the block `owner.name` is `value`; after it the owner's own namespace is as it was before."""
    before = vars(owner).get(name, _MISSING)
    setattr(owner, name, value)
    try:
        yield
    finally:
        if before is _MISSING:
            delattr(owner, name)
        else:
            setattr(owner, name, before)


@contextmanager
def replaced(owner: Any, name: str, function: Callable[..., Any]) -> Iterator[None]:
    """Within the block calls of `owner.name` go to `function` in this thread, and where they always went in others."""
    with attribute(owner, name, here(function, getattr(owner, name))):
        yield


def here(function: Callable[..., Any], original: Callable[..., Any]) -> Callable[..., Any]:
    """A function that is one thing in the calling thread and another in all others."""
    thread = threading.get_ident()

    def either(*args: Any, **kwargs: Any) -> Any:
        return (function if threading.get_ident() == thread else original)(*args, **kwargs)

    return either
