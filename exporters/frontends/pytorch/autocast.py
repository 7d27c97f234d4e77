"""`torch.autocast` while a module is traced and compared: everything in the precision of its weights.

ONNX Runtime's CPU has no bfloat16 to multiply in, and autocast is there for speed, not for its rounding.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

from seqport.exporters.frontends.patching import replaced


@contextmanager
def autocast_off() -> Iterator[list[str]]:
    """Within this block autocast does nothing; the list gets the types that it would have cast to."""
    kinds: list[str] = []

    def enter(self: Any) -> Any:
        if getattr(self, "_enabled", False):
            kinds.append(str(self.fast_dtype).removeprefix("torch."))
        return self

    def leave(self: Any, *_: Any) -> bool:  # noqa: ARG001
        return False

    with ExitStack() as stack:
        stack.enter_context(replaced(torch.autocast, "__enter__", enter))
        stack.enter_context(replaced(torch.autocast, "__exit__", leave))
        yield kinds
