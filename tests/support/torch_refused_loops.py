"""Loops over time that no native node can compute, or that a trace cannot see whole."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from seqport.exporters import Input
from support.torch_hand import LINEARS
from support.torch_loops import GRU, HEAD, LSTM, TABLE, Part, _zeros
from support.torch_models import FEATURES, HIDDEN, IDS, LENGTHS, X


def _cell_states(self: Any, x: Tensor) -> Tensor:
    h, c, states = _zeros(x), _zeros(x), []
    for t in range(x.size(1)):
        h, c = self.cell(x[:, t], (h, c))
        states.append(c)
    return torch.stack(states, 1)


def _attention(self: Any, x: Tensor) -> Tensor:
    h, outputs = _zeros(x), []
    for _ in range(x.size(1)):
        weights = torch.softmax((x @ self.query(h)[:, :, None]).squeeze(-1), dim=1)
        context = (weights[:, None] @ x).squeeze(1)
        h = self.cell(context, h)
        outputs.append(h)
    return torch.stack(outputs, 1)


def _greedy(self: Any, x: Tensor) -> Tensor:
    h, step, logits = _zeros(x), x[:, 0], []
    for _ in range(x.size(1)):
        h = self.cell(step, h)
        logits.append(self.head(h))
        step = self.embedding(logits[-1].argmax(-1))
    return torch.stack(logits, 1)


def _twice_the_longest(self: Any, x: Tensor, lengths: Tensor) -> Tensor:
    h = _zeros(x)
    for _ in range(2 * int(lengths.max())):
        h = self.cell(x[:, 0], h)
    return h


def _branch_on_the_longest(self: Any, x: Tensor, lengths: Tensor) -> Tensor:
    h, longest = _zeros(x), int(lengths.max())
    for t in range(longest):
        h = self.cell(x[:, t], h)
    return 2 * h if (longest + 3) // 2 == 25 else h


def _branch_on_their_maximum(self: Any, x: Tensor, lengths: Tensor) -> Tensor:
    h = _zeros(x)
    for t in range(int(lengths.max())):
        h = self.cell(x[:, t], h)
    return 2 * h if lengths.max() == 44 else h


def _longest_in_arithmetic(self: Any, x: Tensor, lengths: Tensor) -> Tensor:
    h, longest = _zeros(x), int(lengths.max())
    for t in range(longest):
        h = self.cell(x[:, t], h)
    return h * longest**2


def _shrinking_batch(self: Any, x: Tensor, lengths: Tensor) -> Tensor:
    h = _zeros(x)
    for t in range(x.size(1)):
        alive = int((lengths > t).sum())
        h = torch.cat([self.cell(x[:alive, t], h[:alive]), h[alive:]])
    return h


def _a_row_at_a_time(self: Any, x: Tensor, lengths: Tensor) -> Tensor:
    rows = []
    for row, n in zip(x, lengths.tolist(), strict=True):
        h = torch.zeros(HIDDEN)
        for step in row[:n]:
            h = self.cell(step, h)
        rows.append(h)
    return torch.stack(rows)


def _zoneout(self: Any, x: Tensor) -> Tensor:
    h = _zeros(x)
    for t in range(x.size(1)):
        h = 0.1 * h + 0.9 * self.cell(x[:, t], h)
    return h


def _normalised(self: Any, x: Tensor) -> Tensor:
    h = _zeros(x)
    for t in range(x.size(1)):
        h = self.norm(self.cell(x[:, t], h))
    return h


def _minimal(self: Any, x: Tensor) -> Tensor:
    h = _zeros(x)
    for t in range(x.size(1)):
        f = torch.sigmoid(self.x2h(x[:, t]) + self.h2h(h))
        h = (1 - f) * h + f * torch.tanh(self.candidate(x[:, t]))
    return h


def _columns(self: Any, x: Tensor) -> Tensor:
    h = torch.zeros(HIDDEN, x.size(0))
    for t in range(x.size(1)):
        h = torch.tanh(self.x2h.weight @ x[:, t].T + self.h2h.weight @ h + self.h2h.bias[:, None])
    return h.T


def _stops_early(self: Any, x: Tensor) -> Tensor:
    h = _zeros(x)
    for t in range(min(x.size(1), 400)):
        h = self.cell(x[:, t], h)
    return h


def _breaks_off(self: Any, x: Tensor) -> Tensor:
    h = _zeros(x)
    for t in range(x.size(1)):
        if t == 400:
            break
        h = self.cell(x[:, t], h)
    return h


def _every_other_state(self: Any, x: Tensor) -> Tensor:
    h = _zeros(x)
    for t in range(x.size(1)):
        h = self.cell(x[:, t], h if t % 2 else torch.relu(h))
    return h


def _reset_in_holes(self: Any, x: Tensor, mask: Tensor) -> Tensor:
    h = _zeros(x)
    for t in range(x.size(1)):
        h = self.cell(x[:, t], h) * mask[:, t, None]
    return h


def _soft_gate(self: Any, x: Tensor, mask: Tensor) -> Tensor:
    h = _zeros(x)
    for t in range(x.size(1)):
        m = mask[:, t, None]
        h = m * self.cell(x[:, t], h) + (1 - m) * h
    return h


def _whole_numbers(self: Any, x: Tensor, ids: Tensor) -> Tensor:
    h = _zeros(x)
    for t in range(x.size(1)):
        m = ids[:, t, None] % 3
        h = m * self.cell(x[:, t], h) + (1 - m) * h
    return h


def _a_part_of_the_ids(self: Any, x: Tensor, ids: Tensor) -> Tensor:
    h = _zeros(x)
    for t in range(x.size(1)):
        m = ids[:, t, 1:]
        h = m * self.cell(x[:, t], h) + (1 - m) * h
    return h


def _scripted_cell() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # people have such modules all the same
        return torch.jit.script(GRU())


def _scripted(self: Any, x: Tensor) -> Tensor:
    h = _zeros(x)
    for t in range(x.size(1)):
        h = self.cell(x[:, t], h)
    return h


MASK = Input("mask", ("batch", "seq"))
LOOPS: dict[str, tuple[Callable[..., Any], tuple[Input, ...], dict[str, Part]]] = {
    "c at each step": (_cell_states, (X,), {"cell": LSTM}),
    "attention": (_attention, (X,), {"cell": GRU, "query": partial(nn.Linear, HIDDEN, FEATURES)}),
    "greedy": (_greedy, (X,), {"cell": GRU, "head": HEAD, "embedding": TABLE}),
    "twice the longest": (_twice_the_longest, (X, LENGTHS), {"cell": GRU}),
    "branch on the longest": (_branch_on_the_longest, (X, LENGTHS), {"cell": GRU}),
    "branch on their maximum": (_branch_on_their_maximum, (X, LENGTHS), {"cell": GRU}),
    "longest in arithmetic": (_longest_in_arithmetic, (X, LENGTHS), {"cell": GRU}),
    "shrinking batch": (_shrinking_batch, (X, LENGTHS), {"cell": GRU}),
    "a row at a time": (_a_row_at_a_time, (X, LENGTHS), {"cell": GRU}),
    "zoneout": (_zoneout, (X,), {"cell": GRU}),
    "normalised": (_normalised, (X,), {"cell": GRU, "norm": partial(nn.LayerNorm, HIDDEN)}),
    "minimal": (_minimal, (X,), {**LINEARS, "candidate": LINEARS["x2h"]}),
    "columns": (_columns, (X,), LINEARS),
    "stops early": (_stops_early, (X,), {"cell": GRU}),
    "breaks off": (_breaks_off, (X,), {"cell": GRU}),
    "every other state": (_every_other_state, (X,), {"cell": GRU}),
    "reset in holes": (_reset_in_holes, (X, MASK), {"cell": GRU}),
    "scripted cell": (_scripted, (X,), {"cell": _scripted_cell}),
    "whole numbers": (_whole_numbers, (X, IDS), {"cell": GRU}),
    "a part of the ids": (_a_part_of_the_ids, (X, Input("ids", ("batch", "seq", 2), "int64")), {"cell": GRU}),
    "soft gate": (_soft_gate, (X, MASK), {"cell": GRU}),
}
