"""Recurrences written by hand, as users write them: linear layers, parameters and one big matrix of gates."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from seqport.exporters import Input
from support.torch_loops import H_0, HEAD, TABLE, Part, _zeros
from support.torch_models import FEATURES, HIDDEN, IDS, LENGTHS, X_TIME_MAJOR, X

JOINED = FEATURES + HIDDEN


class Elman(nn.Module):
    """h = tanh(W_hx x + W_hh h)."""

    def __init__(self, inputs: int = FEATURES) -> None:
        super().__init__()
        self.W_hx, self.W_hh = nn.Linear(inputs, HIDDEN), nn.Linear(HIDDEN, HIDDEN, bias=False)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return torch.tanh(self.W_hx(x) + self.W_hh(h))


class HandGRU(nn.Module):
    """One layer for each gate, over [x, h]; the reset gate acts before the product."""

    def __init__(self) -> None:
        super().__init__()
        self.update, self.reset = nn.Linear(JOINED, HIDDEN), nn.Linear(JOINED, HIDDEN)
        self.candidate = nn.Linear(JOINED, HIDDEN)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        both = torch.cat([x, h], dim=1)
        z, r = torch.sigmoid(self.update(both)), torch.sigmoid(self.reset(both))
        n = torch.tanh(self.candidate(torch.cat([x, r * h], dim=1)))
        return (1 - z) * h + z * n


class ChunkedGRU(nn.Module):
    """PyTorch's own equations with one matrix for each side."""

    def __init__(self) -> None:
        super().__init__()
        self.x2h, self.h2h = nn.Linear(FEATURES, 3 * HIDDEN), nn.Linear(HIDDEN, 3 * HIDDEN)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        x_r, x_z, x_n = self.x2h(x).chunk(3, 1)
        h_r, h_z, h_n = self.h2h(h).chunk(3, 1)
        r, z = torch.sigmoid(x_r + h_r), torch.sigmoid(x_z + h_z)
        n = torch.tanh(x_n + r * h_n)
        return n + z * (h - n)


class HandLSTM(nn.Module):
    """Parameters U and V, gates split off one sum; peepholes where asked for."""

    def __init__(self, peephole: bool = False) -> None:
        super().__init__()
        self.U = nn.Parameter(torch.randn(FEATURES, 4 * HIDDEN) * 0.3)
        self.V = nn.Parameter(torch.randn(HIDDEN, 4 * HIDDEN) * 0.3)
        self.bias = nn.Parameter(torch.randn(4 * HIDDEN) * 0.3)
        self.P = nn.Parameter(torch.randn(3, HIDDEN) * 0.3) if peephole else None

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        h, c = state
        i, f, g, o = torch.split(x @ self.U + h @ self.V + self.bias, HIDDEN, dim=1)
        if self.P is not None:
            i, f = i + self.P[0] * c, f + self.P[1] * c
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        o = torch.sigmoid(o if self.P is None else o + self.P[2] * c)
        return o * torch.tanh(c), c


class JoinedLSTM(nn.Module):
    """One nn.Linear over [x, h], with a forget bias."""

    def __init__(self) -> None:
        super().__init__()
        self.gates = nn.Linear(JOINED, 4 * HIDDEN)

    def forward(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        gates = self.gates(torch.cat((x, h), 1))
        i, j, f, o = gates.chunk(4, 1)
        c = c * torch.sigmoid(f + 1.0) + torch.sigmoid(i) * torch.tanh(j)
        return torch.tanh(c) * torch.sigmoid(o), c


class Gate(nn.Module):
    """One gate of an LSTM of modules."""

    def __init__(self, activation: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.x, self.h = nn.Linear(FEATURES, HIDDEN), nn.Linear(HIDDEN, HIDDEN, bias=False)
        self.activation = activation

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return self.activation(self.x(x) + self.h(h))


def _elman(self: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    h, outputs = torch.zeros(x.size(0), HIDDEN), []
    for t in range(x.size(1)):
        h = self.cell(x[:, t, :], h)
        outputs.append(self.head(h))
    return torch.stack(outputs, dim=1), h


def _elman_inline(self: Any, x: Tensor, h_0: Tensor) -> Tensor:
    h, outputs = h_0, []
    for step in x:
        h = torch.relu(self.i2h(torch.cat((step, h), 1)))
        outputs.append(h)
    return torch.cat(outputs).view(len(x), -1, HIDDEN)


def _elman_masked(self: Any, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    h, outputs = _zeros(x), []
    for t in range(x.size(1)):
        mask = (lengths > t).float().unsqueeze(1)
        h = mask * self.cell(x[:, t], h) + (1 - mask) * h
        outputs.append(h * mask)
    return torch.stack(outputs, 1), h


def _projected_first(self: Any, x: Tensor) -> Tensor:
    gates, h, outputs = self.x2h(x), _zeros(x), []
    for t in range(x.size(1)):
        h = torch.tanh(gates[:, t] + functional.linear(h, self.h2h.weight))
        outputs.append(h)
    return torch.stack(outputs, 1)


def _fused(self: Any, x: Tensor) -> Tensor:
    h = _zeros(x)
    for t in range(x.size(1)):
        h = torch.tanh(torch.addmm(self.h2h.bias, h, self.h2h.weight.t()) + x[:, t] @ self.x2h.weight.t())
    return h


def _gru(self: Any, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    h, outputs = _zeros(x), []
    for t, step in enumerate(x.unbind(1)):
        h = torch.where((t < lengths)[:, None], self.cell(step, h), h)
        outputs.append(h)
    return torch.stack(outputs, 1), h


def _gru_ids(self: Any, ids: Tensor) -> Tensor:
    h, mask = torch.zeros(ids.size(0), HIDDEN), (ids != 0).unsqueeze(-1)
    for t in range(ids.size(1)):
        h = torch.where(mask[:, t], self.cell(self.embedding(ids[:, t]), h), h)
    return self.head(h)


def _lstm(self: Any, x: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    h, c, outputs = _zeros(x), _zeros(x), []
    for t in range(x.size(1)):
        h, c = self.cell(x[:, t, :], (h, c))
        outputs.append(h.unsqueeze(0))
    return torch.cat(outputs, dim=0).transpose(0, 1).contiguous(), (h, c)


def _lstm_masked(self: Any, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    h, c = _zeros(x), _zeros(x)
    out = torch.zeros(x.size(0), x.size(1), HIDDEN)
    for t in range(x.size(1)):
        keep = (t < lengths).unsqueeze(1)
        new_h, new_c = self.cell(x[:, t], h, c)
        h, c = torch.where(keep, new_h, h), torch.where(keep, new_c, c)
        out[:, t] = torch.where(keep, new_h, torch.zeros_like(new_h))
    return out, h, c


def _lstm_of_modules(self: Any, x: Tensor) -> Tensor:
    h, c, outputs = _zeros(x), _zeros(x), []
    for t in reversed(range(x.size(1))):
        step = x[:, t]
        i, f, g, o = (self.gates[k](step, h) for k in range(4))
        c = f * c + i * g
        h = o * torch.tanh(c)
        outputs.insert(0, h)
    return torch.stack(outputs, 1)


def _stacked(self: Any, x: Tensor, lengths: Tensor) -> Tensor:
    states = [_zeros(x), _zeros(x)]
    outputs = []
    for t in range(x.size(1)):
        step, alive = x[:, t], (t < lengths)[:, None]
        for k, cell in enumerate((self.first, self.second)):
            states[k] = torch.where(alive, cell(step, states[k]), states[k])
            step = states[k]
        outputs.append(step)
    return self.head(torch.stack(outputs, 1)) * (torch.arange(x.size(1)) < lengths[:, None])[..., None]


def _both_ways(self: Any, x: Tensor) -> Tensor:
    h, g, forward, backward = _zeros(x), _zeros(x), [], []
    n = x.size(1)
    for t in range(n):
        h = self.first(x[:, t], h)
        g = self.second(x[:, n - t - 1], g)
        forward.append(h)
        backward.append(g)
    return torch.cat((torch.stack(forward, 1), torch.stack(backward[::-1], 1)), -1)


def _rank_three(self: Any, x: Tensor) -> Tensor:
    h, outputs = torch.zeros(x.size(0), 1, HIDDEN), []
    for step in x.split(1, dim=1):
        h = self.cell(step, h)
        outputs.append(h)
    return torch.cat(outputs, dim=1)


LINEARS: dict[str, Part] = {
    "x2h": partial(nn.Linear, FEATURES, HIDDEN, bias=False),
    "h2h": partial(nn.Linear, HIDDEN, HIDDEN),
}
LOOPS: dict[str, tuple[Callable[..., Any], tuple[Input, ...], dict[str, Part]]] = {
    "elman": (_elman, (X,), {"cell": Elman, "head": HEAD}),
    "elman-inline": (_elman_inline, (X_TIME_MAJOR, H_0), {"i2h": partial(nn.Linear, JOINED, HIDDEN)}),
    "elman-masked": (_elman_masked, (X, LENGTHS), {"cell": Elman}),
    "projected-first": (_projected_first, (X,), {"x2h": partial(nn.Linear, FEATURES, HIDDEN), "h2h": LINEARS["h2h"]}),
    "fused": (_fused, (X,), LINEARS),
    "hand-gru": (_gru, (X, LENGTHS), {"cell": HandGRU}),
    "chunked-gru": (_gru, (X, LENGTHS), {"cell": ChunkedGRU}),
    "gru-masked-by-ids": (_gru_ids, (IDS,), {"embedding": TABLE, "cell": HandGRU, "head": HEAD}),
    "hand-lstm": (_lstm, (X,), {"cell": HandLSTM}),
    "peepholes": (_lstm, (X,), {"cell": partial(HandLSTM, True)}),
    "joined-lstm": (_lstm_masked, (X, LENGTHS), {"cell": JoinedLSTM}),
    "lstm-of-modules": (
        _lstm_of_modules,
        (X,),
        {"gates": lambda: nn.ModuleList([Gate(f) for f in (torch.sigmoid, torch.sigmoid, torch.tanh, torch.sigmoid)])},
    ),
    "hand-stacked": (_stacked, (X, LENGTHS), {"first": ChunkedGRU, "second": partial(Elman, HIDDEN), "head": HEAD}),
    "hand-both-ways": (_both_ways, (X,), {"first": Elman, "second": HandGRU}),
    "rank-three": (_rank_three, (X,), {"cell": Elman}),
}
