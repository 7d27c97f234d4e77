"""Calls of PyTorch's functions that would freeze a size while a module is traced, put in a form that does not."""

from __future__ import annotations

import linecache
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from seqport.exporters.frontends.pytorch.datasizes import DataSizes
from seqport.exporters.frontends.pytorch.longest import COMPARISONS
from seqport.exporters.frontends.pytorch.numbers import TracedNumbers

# Functions that leave the values of a tensor of integers as they are.
_SAME_VALUES = frozenset(
    {Tensor.cpu, Tensor.to, Tensor.long, Tensor.int, Tensor.detach, Tensor.clone, Tensor.contiguous, Tensor.type}
    | {torch.clone, torch.detach, torch.as_tensor}
)
# Where the files between a user's line and a form below are.
_BETWEEN = (__file__, str(Path(torch.__file__).parent) + os.sep)
_MAXIMA = frozenset({Tensor.max, torch.max, Tensor.amax, torch.amax})


@contextmanager
def calls_traced(sizes: DataSizes) -> Iterator[None]:
    """Within this block the calls below are traced in their other form."""
    with _Calls(sizes):
        yield


class _Calls(TorchFunctionMode):
    def __init__(self, sizes: DataSizes) -> None:
        super().__init__()
        self._sizes = sizes

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        other = _FORMS.get(func)
        if other is not None and (found := other(self._sizes, *args, **kwargs)) is not NotImplemented:
            return found
        result = func(*args, **kwargs)
        if func in COMPARISONS and len(args) == 2:
            self._sizes.note_comparison(COMPARISONS[func], result, *args)
        if args and isinstance(args[0], Tensor) and not args[0].is_floating_point():
            if func in _SAME_VALUES:
                self._sizes.note_same(result, args[0])
            elif func in _MAXIMA and _is_over_all(args[0], args[1:], kwargs):
                self._sizes.note_maximum(result if isinstance(result, Tensor) else result[0], args[0])
        return result


def _is_over_all(tensor: Tensor, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    """Whether a maximum is one over all elements: `lengths.max()`, and `lengths.max(dim=0)` of a single axis."""
    dims = [*args, *kwargs.values()]
    return not dims or (tensor.dim() == 1 and len(dims) == 1 and type(dims[0]) is int and "keepdim" not in kwargs)


def _new(_: DataSizes, tensor: Tensor, *sizes: Any, **options: Any) -> Any:
    """`weight.new(2, batch, hidden)`, which the tracer runs for real."""
    if options or not all(isinstance(size, (int, torch.SymInt)) for size in sizes):
        return NotImplemented
    return tensor.new_zeros(sizes)  # uninitialised: any values are right, and zeros stay zeros


def _tensor(_: DataSizes, data: Any, *args: Any, **options: Any) -> Any:  # noqa: ARG001
    """`torch.tensor(lengths.tolist())`: the tensor that the numbers are of."""
    return data.tensor if isinstance(data, TracedNumbers) else NotImplemented


def _data(_: DataSizes, tensor: Tensor) -> Tensor:
    """`weight.data`, which the tracer does not follow."""
    return tensor.detach()


def _one_hot(_: DataSizes, tensor: Tensor, num_classes: Any = -1) -> Any:
    """`one_hot(ids, x.size(1))`: PyTorch's own takes a number of classes that is not symbolic."""
    if not isinstance(num_classes, torch.SymInt):
        return NotImplemented
    return (tensor.unsqueeze(-1) == torch.arange(cast(int, num_classes), device=tensor.device)).to(torch.int64)


def _bool(sizes: DataSizes, tensor: Tensor) -> Any:
    """`while t < lengths.max()`; `assert lengths.max() <= x.size(1)`, which no graph can keep, is taken to hold."""
    if (truth := sizes.truth_of(tensor)) is not None:
        return truth
    frame = sys._getframe()
    while frame is not None and frame.f_code.co_filename.startswith(_BETWEEN):
        frame = frame.f_back
    line = linecache.getline(frame.f_code.co_filename, frame.f_lineno) if frame is not None else ""
    return True if line.lstrip().startswith("assert ") else NotImplemented


def _item(sizes: DataSizes, tensor: Tensor) -> Any:
    """`lengths.max().item()`: a size that the tracer may be asked about."""
    size = sizes.size_of(tensor)
    return NotImplemented if size is None else size


def _number(sizes: DataSizes, tensor: Tensor) -> Any:
    """`range(lengths.max())`: a number where the trace has one for it."""
    size = sizes.number_of(tensor)
    return NotImplemented if size is None else size.plain()


def _getitem(sizes: DataSizes, tensor: Tensor, index: Any) -> Any:
    """`x[:, :50]` and `x[:, -50:]` where the axis is dynamic: the tracer would ask whether it is longer than that."""
    parts = index if type(index) is tuple else (index,)
    if not any(isinstance(part, slice) for part in parts):
        return NotImplemented
    changed, axis = [], 0
    for position, part in enumerate(parts):
        if part is Ellipsis:
            taken = sum(other is not None for other in parts[position + 1 :])
            axis = tensor.dim() - taken
        elif isinstance(part, slice) and axis < tensor.dim():
            part = _within(sizes, part, tensor.shape[axis])
            axis += 1
        elif isinstance(part, Tensor) and part.dtype == torch.bool:
            return NotImplemented  # it takes as many axes as it has itself
        elif part is not None:
            axis += 1
        changed.append(part)
    if all(one is other for one, other in zip(changed, parts, strict=True)):
        return NotImplemented
    return tensor[tuple(changed)]


def _within(sizes: DataSizes, part: slice, size: Any) -> slice:
    """The slice with ends that lie within the axis, whatever size that has."""
    if not isinstance(size, torch.SymInt) or part.step not in (None, 1):
        return part
    start, stop = part.start, part.stop
    # The step of a loop over the axis lies within it; a slice of a number of the module's own may not.
    within = size.node.hint if sizes.unrolling else 0
    if type(stop) is int and stop > max(1, within):
        stop = torch.sym_min(size, stop)
    elif isinstance(stop, Tensor) and (known := sizes.size_of(stop)) is not None:
        stop = known
    if type(start) is int and -start > max(1, within):
        start = torch.sym_max(size + start, 0)
    return part if start is part.start and stop is part.stop else slice(start, stop, part.step)


_FORMS: dict[Callable[..., Any], Callable[..., Any]] = {
    Tensor.new: _new,
    Tensor.data.__get__: _data,  # pyright: ignore[reportAttributeAccessIssue]
    functional.one_hot: _one_hot,
    torch.tensor: _tensor,
    torch.as_tensor: _tensor,
    Tensor.item: _item,
    Tensor.__index__: _number,
    Tensor.__bool__: _bool,
    Tensor.__getitem__: _getitem,
}
