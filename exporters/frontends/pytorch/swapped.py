"""Two declared inputs that stand in each other's place, told by what the module takes."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from seqport.exporters.arrangement import Arrangement
from seqport.exporters.errors import InputsError
from seqport.exporters.signature import Input


def swapped_inputs(
    model: nn.Module, arrangement: Arrangement, sizes: Mapping[str, int], device: torch.device
) -> InputsError | None:
    """The error for inputs that the module takes only the other way round; None where that is not what is wrong.

    Args:
        model: a module that could not be traced.
        arrangement: how its forward takes the inputs.
        sizes: of every dynamic axis.
        device: where its weights are.
    """
    inputs = arrangement.inputs
    pairs = [
        (i, j)
        for i, j in itertools.combinations(range(len(inputs)), 2)
        if (len(inputs[i].axes), inputs[i].dtype) != (len(inputs[j].axes), inputs[j].dtype)
    ]
    values = [_ones(item, sizes, device) for item in inputs]
    if not pairs or _runs(model, arrangement, values):
        return None
    for i, j in pairs:
        others = list(values)
        others[i], others[j] = values[j], values[i]
        if _runs(model, arrangement, others):
            return InputsError(
                f"inputs {inputs[i].name!r} {_said(inputs[i])} and {inputs[j].name!r} {_said(inputs[j])} are swapped: "
                "forward fails on them as declared, and runs with each in the other's place"
            )
    return None


def _ones(item: Input, sizes: Mapping[str, int], device: torch.device) -> torch.Tensor:
    """Ones are lengths, ids and masks that most models take."""
    shape = [sizes.get(axis, 2) if isinstance(axis, str) else axis for axis in item.axes]
    return torch.ones(shape, dtype=getattr(torch, item.dtype), device=device)


def _runs(model: nn.Module, arrangement: Arrangement, values: Sequence[Any]) -> bool:
    try:
        with torch.no_grad():
            arrangement.call(model, values)
    except Exception:
        return False
    return True


def _said(item: Input) -> str:
    return f"({item.dtype} [{', '.join(map(str, item.axes))}])"
