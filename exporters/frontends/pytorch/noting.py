"""A PyTorch module on real tensors, whose sizes note what its own code compares them with.

Nothing of the run but its notes is used.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from seqport.exporters.comparisons import Notes
from seqport.exporters.frontends.noting import noted
from seqport.exporters.frontends.noting.owners import is_users
from seqport.exporters.frontends.noting.running import NotedRuns
from seqport.exporters.frontends.pytorch.longest import COMPARISONS

# Methods of tensors that give a size, or a number that may be a length.
_NUMBERS = frozenset({Tensor.size, Tensor.shape.__get__, Tensor.numel, Tensor.nelement, Tensor.item, Tensor.tolist})  # pyright: ignore[reportAttributeAccessIssue]


class Noting:
    """Runs a model and notes what its code compares.

    Args:
        model: the module.
    """

    def __init__(self, model: nn.Module) -> None:
        self._runs = NotedRuns(list(model.modules()), _Sizes)

    def notes(self, run: Callable[[], Any], *, sized: bool = True) -> Notes:
        """What the user's code compares while the model runs; nothing where it does not take numbers that note.

        Args:
            run: runs the model.
            sized: whether to count the elements of its largest tensor too, inside of recurrent layers step by step.
        """
        largest = _Largest()

        def counted() -> Any:
            with largest if sized else nullcontext():
                return run()

        return self._runs.notes(counted)._replace(largest=largest.elements)


class _Sizes(TorchFunctionMode):
    """Sizes and numbers of tensors note, where the user's own code asks for them."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if func in COMPARISONS and len(args) == 2 and all(_is_number(item) for item in args):
            noted.note(COMPARISONS[func].__name__, *map(_number, args))
        noted.recording.note_numbers(tree_leaves([_bounds(item) for item in args]))
        if func in _NUMBERS and is_users(sys._getframe(1).f_code.co_filename):
            return _noted(result)
        return result


class _Largest(TorchDispatchMode):
    """Counts the elements of the largest tensor; attention in one operator counts as what it is computed from."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if all(item.alias_info is None for item in func._schema.returns):  # a view has no memory of its own
            found = [item for item in tree_leaves(result) if isinstance(item, Tensor)]
            self.elements = max([self.elements, *(item.numel() for item in found)])
        if "attention" in str(func):
            rows = [item for item in args if isinstance(item, Tensor) and item.dim() > 2]
            steps = max((item.shape[-2] for item in rows), default=1)
            self.elements = max([self.elements, *(item.numel() // item.shape[-1] * steps for item in rows)])
        return result


def _bounds(item: Any) -> Any:
    """A slice as the numbers that it holds."""
    if isinstance(item, slice):
        return [item.start, item.stop]
    return [_bounds(each) for each in item] if isinstance(item, tuple) else item


def _is_number(item: Any) -> bool:
    """Whether a side of a comparison is a number, as `lengths.max()` is."""
    return isinstance(item, int) or (isinstance(item, Tensor) and item.dim() == 0 and not item.is_floating_point())


def _number(item: Any) -> Any:
    return noted.size(int(item)) if isinstance(item, Tensor) else item


def _noted(result: Any) -> Any:
    if type(result) is int:
        return noted.size(result)
    if isinstance(result, torch.Size):
        return torch.Size([noted.size(item) for item in result])
    return [_noted(item) for item in result] if isinstance(result, list) else result
