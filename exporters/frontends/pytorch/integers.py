"""`int(...)` in a user's forward: a size or a length stays symbolic while the module is traced.

`int(lengths.max())` and `int(x.size(1))` are how many modules spell a size. Python's own `int` must return a number,
which would freeze the traced one, so the name `int` in the files that define the model's modules leads here.
"""

from __future__ import annotations

import builtins
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn

from seqport.exporters.frontends.patching import attribute


class _Meta(type):
    """Calls like `int`, and passes for it in isinstance and issubclass."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        if len(args) == 1 and isinstance(args[0], torch.SymInt):
            return args[0]
        if len(args) == 1 and isinstance(args[0], torch.Tensor) and not args[0].is_floating_point():
            return args[0].item()
        return builtins.int(*args, **kwargs)

    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, builtins.int)

    def __subclasscheck__(cls, subclass: type) -> bool:
        return issubclass(subclass, builtins.int)


class _Int(metaclass=_Meta):
    """Stands for `int`."""


@contextmanager
def integers_symbolic(model: nn.Module, wanted: bool) -> Iterator[None]:
    """Within this block `int` in the files of the model's own classes keeps symbolic sizes symbolic, where wanted.

    PyTorch does not take it for a dtype (`dtype=int`), so it is wanted only where a trace without it failed.
    """
    modules = list(model.modules()) if wanted else []
    names = {base.__module__ for module in modules for base in type(module).__mro__ if base is not object}
    with ExitStack() as stack:
        for name in sorted(names):
            own = sys.modules.get(name)
            if own is not None and name.partition(".")[0] not in ("torch", "builtins", "typing", "abc"):
                stack.enter_context(attribute(own, "int", _Int))
        yield
