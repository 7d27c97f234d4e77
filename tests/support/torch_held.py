"""Hand-written loops whose given state a mask holds, with the state as the output of every step."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from seqport.exporters import Input
from support.torch_hand import Elman, HandGRU, JoinedLSTM
from support.torch_loops import C_0, GRU, H_0, MASK, Part
from support.torch_models import HIDDEN, LENGTHS, X


def _blended(self: Any, x: Tensor, mask: Tensor, h_0: Tensor) -> tuple[Tensor, Tensor]:
    h, outputs = h_0, []
    for t in range(x.size(1)):
        m = mask[:, t].float().unsqueeze(1)
        h = m * self.cell(x[:, t], h) + (1 - m) * h
        outputs.append(h)
    return torch.stack(outputs, 1), h


def _blended_backwards(self: Any, x: Tensor, mask: Tensor, h_0: Tensor) -> tuple[Tensor, Tensor]:
    h, outputs = h_0, []
    for t in reversed(range(x.size(1))):
        m = mask[:, t].float().unsqueeze(1)
        h = m * self.cell(x[:, t], h) + (1 - m) * h
        outputs.append(h)
    return torch.stack(outputs[::-1], 1), h


def _chosen(self: Any, x: Tensor, lengths: Tensor, h_0: Tensor) -> tuple[Tensor, Tensor]:
    h, outputs = h_0, []
    for t in range(x.size(1)):
        h = torch.where((t < lengths)[:, None], self.cell(x[:, t], h), h)
        outputs.append(h)
    return torch.stack(outputs, 1), h


def _chosen_backwards(self: Any, x: Tensor, lengths: Tensor, h_0: Tensor) -> tuple[Tensor, Tensor]:
    h, outputs = h_0, []
    for t in range(x.size(1) - 1, -1, -1):
        h = torch.where((t < lengths)[:, None], self.cell(x[:, t], h), h)
        outputs.insert(0, h)
    return torch.stack(outputs, 1), h


def _two_states(self: Any, x: Tensor, mask: Tensor, h_0: Tensor, c_0: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    h, c, outputs = h_0, c_0, []
    for t in range(x.size(1)):
        new_h, new_c = self.cell(x[:, t], h, c)
        h, c = torch.where(mask[:, t, None], new_h, h), torch.where(mask[:, t, None], new_c, c)
        outputs.append(h)
    return torch.stack(outputs, 1), h, c


def _learned(self: Any, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    h, outputs = self.start.bias.expand(x.size(0), -1), []
    for t in range(x.size(1)):
        h = torch.where(mask[:, t, None], self.cell(x[:, t], h), h)
        outputs.append(h)
    return torch.stack(outputs, 1), h


def _before(self: Any, x: Tensor, mask: Tensor, h_0: Tensor) -> tuple[Tensor, Tensor]:
    h, outputs = h_0, []
    for t in range(x.size(1)):
        outputs.append(h)  # the state that the step starts from
        h = torch.where(mask[:, t, None], self.cell(x[:, t], h), h)
    return torch.stack(outputs, 1), h


LOOPS: dict[str, tuple[Callable[..., Any], tuple[Input, ...], dict[str, Part]]] = {
    "mask": (_blended, (X, MASK, H_0), {"cell": Elman}),
    "mask-backwards": (_blended_backwards, (X, MASK, H_0), {"cell": HandGRU}),
    "mask-of-a-cell": (_blended, (X, MASK, H_0), {"cell": GRU}),
    "lengths": (_chosen, (X, LENGTHS, H_0), {"cell": HandGRU}),
    "lengths-backwards": (_chosen_backwards, (X, LENGTHS, H_0), {"cell": Elman}),
    "lstm": (_two_states, (X, MASK, H_0, C_0), {"cell": JoinedLSTM}),
    "learned-state": (_learned, (X, MASK), {"cell": GRU, "start": partial(nn.Linear, 1, HIDDEN)}),
    "state-before": (_before, (X, MASK, H_0), {"cell": Elman}),
}
