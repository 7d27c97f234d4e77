"""Lengths that a module turns into Python numbers while it is traced.

`lengths.tolist()` and `lengths.numpy()` would freeze the example's lengths into the graph (onnxruntime#10768). Packing
is what modules do that for, and packing takes the tensor itself just as well; any other use is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NoReturn

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch._subclasses.functional_tensor import FunctionalTensor

from seqport.exporters.errors import RefusedError
from seqport.exporters.frontends.patching import replaced


class TracedNumbers:
    """What `tolist()` or `numpy()` of a traced tensor gives: good for packing, and for nothing else."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor

    def _refuse(self, *_: Any) -> NoReturn:
        raise RefusedError(
            "the model",
            "reads values of a tensor as Python numbers (tolist or numpy), which the trace would freeze",
            "keep them in the tensor: lengths may go to pack_padded_sequence as they are",
        )

    __neg__ = __add__ = __sub__ = __mul__ = __radd__ = __rsub__ = __rmul__ = _refuse
    __iter__ = __getitem__ = __len__ = __array__ = __index__ = __eq__ = __lt__ = __gt__ = _refuse
    __hash__ = None  # type: ignore[assignment]

    def tolist(self) -> TracedNumbers:
        """The same numbers."""
        return self


@contextmanager
def numbers_traced() -> Iterator[None]:
    """Within this block tensors of one axis or more keep their tensor behind `tolist` and `numpy`."""
    with ExitStack() as stack:
        for owner in (torch.Tensor, FakeTensor, FunctionalTensor):
            for name in ("tolist", "numpy"):
                stack.enter_context(replaced(owner, name, _traced(getattr(owner, name))))
        yield


def _traced(original: Callable[..., Any]) -> Callable[..., Any]:
    def patched(self: Tensor, *args: Any, **kwargs: Any) -> Any:
        if self.dim() == 0 or self.is_floating_point():
            return original(self, *args, **kwargs)
        return TracedNumbers(self)

    return patched
