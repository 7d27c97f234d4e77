"""Weights that a module computes from others (weight_norm, orthogonal), as what they are while it is traced."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import nn
from torch.nn.utils import parametrize

from seqport.exporters.frontends.patching import attribute

_VALUES = "_seqport_parametrized"


@contextmanager
def weights_computed(model: nn.Module) -> Iterator[None]:
    """Within this block parametrized weights are constants; in evaluation mode they are that anyway."""
    with ExitStack() as stack:
        for module in model.modules():
            if not parametrize.is_parametrized(module):
                continue
            names = list(module.parametrizations)  # type: ignore[arg-type]
            with torch.no_grad():
                values = {name: getattr(module, name).detach().clone() for name in names}
            stack.enter_context(attribute(module, _VALUES, values))
            for name in names:  # a copy of the module may share its class, and not its values
                stack.enter_context(attribute(type(module), name, property(_reader(name))))
        yield


def _reader(name: str) -> Callable[[nn.Module], torch.Tensor]:
    return lambda module: getattr(module, _VALUES)[name]
