"""What a caller of `predict` may choose."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypedDict

import numpy as np

from seqport.runtime.errors import InputError, InputSizeError

Answer = dict[str, np.ndarray]
Progress = Callable[[int, int | None], object]
Run = Callable[[Mapping[str, Any]], Answer]

# At most so many rows in one run, so many items read ahead, and so many bytes for a batch.
BATCH_SIZE = 128
GENERATED_AT_ONCE = 256  # at most so many rows in one step
READ_AHEAD = 4096
MEMORY = 2**28
_BATCHES_HELD = 4


class Bounds(TypedDict, total=False):
    """Options that do not change what is returned."""

    batch_size: int
    memory_limit: int | None
    progress: Progress | None


@dataclass(frozen=True)
class Options:
    """What a caller may choose; see `Session.predict` and `Session.predict_iter`.

    Raises:
        InputSizeError: a number below 1.
        InputError: `on_error` is neither "raise" nor "return".
    """

    batch_size: int = BATCH_SIZE
    memory_limit: int | None = None
    progress: Progress | None = None
    on_error: Literal["raise", "return"] = "raise"
    read_ahead: int = READ_AHEAD
    in_order: bool = True  # what comes before a wrong item is answered before its error is raised

    @property
    def batch_bytes(self) -> int:
        """What a padded batch may take."""
        return self.memory_limit or MEMORY

    @property
    def held_bytes(self) -> int:
        """What items read ahead and their answers may take: enough for several batches to choose among."""
        return _BATCHES_HELD * self.batch_bytes

    def __post_init__(self) -> None:
        for name, what in (("batch_size", "row a batch"), ("read_ahead", "item"), ("memory_limit", "byte")):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputSizeError(f"{name} is {value}, expected at least 1 {what}")
        if self.on_error not in ("raise", "return"):
            raise InputError(f"on_error is {self.on_error!r}, expected 'raise' or 'return'")
