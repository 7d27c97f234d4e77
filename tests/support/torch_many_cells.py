"""Loops over time with more than one cell: both directions, layers, words and their characters, encoder and decoder."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from seqport.exporters import Input
from support.torch_loops import ABOVE, GRU, HEAD, LSTM, RNN, TABLE, Part, _zeros
from support.torch_models import FEATURES, HIDDEN, LENGTHS, X

Y = Input("y", ("batch", "out_seq", FEATURES))
CHARS = Input("chars", ("batch", "words", "chars"), "int64")


class Encoder(nn.Module):
    """A loop in a submodule that others call."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = GRU()

    def forward(self, x: Tensor, h: Any = None) -> tuple[Tensor, Tensor]:
        h = torch.zeros(x.size(0), HIDDEN) if h is None else h
        outputs = []
        for t in range(x.size(1)):
            h = self.cell(x[:, t], h)
            outputs.append(h)
        return torch.stack(outputs, 1), h


def _both_ways(self: Any, x: Tensor) -> Tensor:
    forward, backward = [], []
    h, g = _zeros(x), _zeros(x)
    for t in range(x.size(1)):
        h = self.cell(x[:, t], h)
        forward.append(h)
    for t in reversed(range(x.size(1))):
        g = self.back(x[:, t], g)
        backward.append(g)
    backward.reverse()
    return self.head(torch.cat([torch.stack(forward, 1), torch.stack(backward, 1)], dim=-1))


def _both_ways_masked(self: Any, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    mask = torch.arange(x.size(1)).unsqueeze(0) < lengths.unsqueeze(1)
    h, g = _zeros(x), _zeros(x)
    forward, backward = [], []
    for t in range(x.size(1)):
        h = torch.where(mask[:, t, None], self.cell(x[:, t], h), h)
        forward.append(h)
    for t in range(x.size(1) - 1, -1, -1):
        g = torch.where(mask[:, t, None], self.back(x[:, t], g), g)
        backward.insert(0, g)
    joined = [torch.cat(pair, -1) for pair in zip(forward, backward, strict=True)]
    return torch.stack(joined, 1), h, g


def _both_in_one_loop(self: Any, x: Tensor) -> Tensor:
    n = x.size(1)
    h, g, forward, backward = _zeros(x), _zeros(x), [], [x] * n
    for t in range(n):
        h = self.cell(x[:, t], h)
        g = self.back(x[:, n - 1 - t], g)
        forward.append(h)
        backward[n - 1 - t] = g
    return torch.cat([torch.stack(forward, 1), torch.stack(backward, 1)], 2)


def _layers_outside(self: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    steps, lasts = list(x.unbind(1)), []
    for i, cell in enumerate((self.cell, self.second, self.third)):
        h = torch.zeros(x.size(0), HIDDEN)
        for t in range(len(steps)):
            h = cell(steps[t], h)
            steps[t] = h if i == 0 else h + steps[t]
        lasts.append(h)
    return torch.stack(steps, 1), torch.stack(lasts)


def _layers_inside(self: Any, x: Tensor) -> Tensor:
    states = [_zeros(x) for _ in self.cells]
    outputs = []
    for t in range(x.size(1)):
        step = x[:, t]
        for i, cell in enumerate(self.cells):
            states[i] = cell(step, states[i])
            step = self.dropout(self.norms[i](states[i]))
        outputs.append(step)
    return torch.stack(outputs, dim=1)


def _layers_lstm_masked(self: Any, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    h = [_zeros(x) for _ in self.cells]
    c = [_zeros(x) for _ in self.cells]
    outputs = []
    for t in range(x.size(1)):
        step, alive = x[:, t], (lengths > t).float().unsqueeze(1)
        for i, cell in enumerate(self.cells):
            h_t, c_t = cell(step, (h[i], c[i]))
            h[i] = alive * h_t + (1 - alive) * h[i]
            c[i] = alive * c_t + (1 - alive) * c[i]
            step = h[i]
        outputs.append(self.head(step))
    return torch.stack(outputs, 1), torch.stack(h), torch.stack(c)


def _characters(self: Any, chars: Tensor) -> Tensor:
    words = []
    for w in range(chars.size(1)):
        h = torch.zeros(chars.size(0), HIDDEN)
        for k in range(chars.size(2)):
            h = self.cell(self.embedding(chars[:, w, k]), h)
        words.append(h)
    g, outputs = torch.zeros(chars.size(0), HIDDEN), []
    for word in words:
        g = self.second(word, g)
        outputs.append(self.head(g))
    return torch.stack(outputs, 1)


def _called_twice(self: Any, x: Tensor, y: Tensor) -> Tensor:
    _, first = self.encoder(x)
    _, second = self.encoder(y)
    return self.head(torch.abs(first - second))


def _encoder_decoder(self: Any, x: Tensor, y: Tensor) -> Tensor:
    h, logits = self.encoder(x)[1], []
    for t in range(y.size(1)):
        h = self.decoder(y[:, t], h)
        logits.append(self.head(h))
    return torch.stack(logits, 1)


def _teacher_forced(self: Any, x: Tensor, ids: Tensor) -> Tensor:
    h = self.encoder(x)[1]
    outputs = torch.zeros(x.size(0), ids.size(1), 3)
    step = ids[:, 0]
    for t in range(1, ids.size(1)):
        h = self.decoder(self.embedding(step), h)
        outputs[:, t] = self.head(h)
        step = ids[:, t]
    return outputs


def _same_states_from_encoder(self: Any, x: Tensor, y: Tensor) -> Tensor:
    context = self.encoder(x)[1]
    h, outputs = _zeros(x), []
    for t in range(y.size(1)):
        h = self.decoder(torch.cat([y[:, t], context], dim=1), h)
        outputs.append(self.head(torch.cat([h, context], dim=1)))
    return torch.stack(outputs, dim=1)


def _one_cell_above_the_other(self: Any, x: Tensor) -> Tensor:
    h = [_zeros(x), _zeros(x)]
    for t in range(x.size(1)):
        h[0] = self.cell(torch.tanh(self.inputs(x[:, t])), h[0])
        h[1] = self.cell(h[0], h[1])
    return h[1]


def _each_way_in_a_function(self: Any, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    batch, seq, _ = x.shape
    mask = (torch.arange(seq) < lengths[:, None]).float()

    def run(cell: nn.Module, order: Any) -> tuple[Tensor, Tensor]:
        h = c = x.new_zeros(batch, HIDDEN)
        outputs = [h] * seq
        for t in order:
            m = mask[:, t : t + 1]
            new_h, new_c = cell(x[:, t], (h, c))
            h, c = new_h * m + h * (1 - m), new_c * m + c * (1 - m)
            outputs[t] = h * m
        return torch.stack(outputs, 1), h

    forward, last = run(self.cell, range(seq))
    backward, first = run(self.back, reversed(range(seq)))
    return torch.cat([forward, backward], -1), torch.cat([last, first], -1)


def _attention_behind(self: Any, x: Tensor, lengths: Tensor) -> Tensor:
    h, outputs, found, t = _zeros(x), [], [], 0
    while t < x.size(1):
        h = self.cell(x[:, t], h)
        outputs.append(h)
        t += 1
    memory, g = torch.stack(outputs, 1), h
    for step in memory.unbind(1):
        g = self.second(step, g)
        scores = (memory @ g.unsqueeze(-1)).squeeze(-1)
        scores = scores.masked_fill(torch.arange(x.size(1))[None] >= lengths[:, None], -1e9)
        found.append(self.head((scores.softmax(-1).unsqueeze(1) @ memory).squeeze(1) + g))
    return torch.stack(found, 1)


LOOPS: dict[str, tuple[Callable[..., Any], tuple[Input, ...], dict[str, Part]]] = {
    "both-ways": (_both_ways, (X,), {"cell": GRU, "back": GRU, "head": partial(nn.Linear, 2 * HIDDEN, 3)}),
    "both-ways-masked": (_both_ways_masked, (X, LENGTHS), {"cell": GRU, "back": GRU}),
    "both-in-one-loop": (_both_in_one_loop, (X,), {"cell": GRU, "back": RNN}),
    "layers-outside": (_layers_outside, (X,), {"cell": GRU, "second": ABOVE, "third": ABOVE}),
    "layers-inside": (
        _layers_inside,
        (X,),
        {
            "cells": lambda: nn.ModuleList([GRU(), ABOVE()]),
            "norms": lambda: nn.ModuleList([nn.LayerNorm(HIDDEN), nn.LayerNorm(HIDDEN)]),
            "dropout": nn.Dropout,
        },
    ),
    "layers-lstm-masked": (
        _layers_lstm_masked,
        (X, LENGTHS),
        {"cells": lambda: nn.ModuleList([LSTM(), nn.LSTMCell(HIDDEN, HIDDEN)]), "head": HEAD},
    ),
    "characters": (_characters, (CHARS,), {"embedding": TABLE, "cell": GRU, "second": ABOVE, "head": HEAD}),
    "called-twice": (_called_twice, (X, Y), {"encoder": Encoder, "head": HEAD}),
    "encoder-decoder": (_encoder_decoder, (X, Y), {"encoder": Encoder, "decoder": GRU, "head": HEAD}),
    "teacher-forced": (
        _teacher_forced,
        (X, Input("ids", ("batch", "out_seq"), "int64")),
        {"encoder": Encoder, "embedding": TABLE, "decoder": GRU, "head": HEAD},
    ),
    "context-at-each-step": (
        _same_states_from_encoder,
        (X, Y),
        {
            "encoder": Encoder,
            "decoder": partial(nn.GRUCell, FEATURES + HIDDEN, HIDDEN),
            "head": partial(nn.Linear, 2 * HIDDEN, 3),
        },
    ),
    "one-cell-above-the-other": (
        _one_cell_above_the_other,
        (X,),
        {"cell": ABOVE, "inputs": partial(nn.Linear, FEATURES, HIDDEN)},
    ),
    "each-way-in-a-function": (_each_way_in_a_function, (X, LENGTHS), {"cell": LSTM, "back": LSTM}),
    "attention-behind": (_attention_behind, (X, LENGTHS), {"cell": GRU, "second": ABOVE, "head": HEAD}),
}
