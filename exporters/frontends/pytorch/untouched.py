"""A module is left as it was, whatever its forward does to itself while it is traced or compared."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


@contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
    """Within this block every submodule is in evaluation mode; after it all attributes and buffers are as before."""
    kept = [(module, _copied(vars(module))) for module in model.modules()]
    buffers = [(buffer, buffer.detach().clone()) for buffer in model.buffers()]
    model.eval()
    try:
        yield
    finally:
        for module, attributes in kept:
            vars(module).clear()
            vars(module).update(attributes)
        with torch.no_grad():
            for buffer, before in buffers:
                if not torch.equal(buffer, before):
                    buffer.copy_(before)


def _copied(attributes: dict[str, Any]) -> dict[str, Any]:
    """The attributes, with the dicts that nn.Module keeps its parameters, buffers and modules in copied."""
    return {name: value.copy() if isinstance(value, dict) else value for name, value in attributes.items()}
