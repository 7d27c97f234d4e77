"""Loops that run up to the longest length, a number that only the values tell."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from seqport.exporters import Input
from support.torch_hand import Elman, HandGRU, JoinedLSTM
from support.torch_loops import GRU, H_0, HEAD, LSTM, MASK, TABLE, Part, _zeros
from support.torch_models import FEATURES, HIDDEN, IDS, LENGTHS, X

Y = Input("y", ("batch", "out_seq", FEATURES))
Y_LENGTHS = Input("y_lengths", ("batch",), "int64")
INT32 = Input("lengths", ("batch",), "int32")


def _int(self: Any, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    h, outputs = _zeros(x), []
    for t in range(int(lengths.max())):
        h = self.cell(x[:, t], h)
        outputs.append(h)
    return torch.stack(outputs, 1), h


def _item(self: Any, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    h, outputs = _zeros(x), []
    for t in range(lengths.max().item()):  # type: ignore[arg-type]
        mask = (lengths > t).float().unsqueeze(1)
        h = mask * self.cell(x[:, t], h) + (1 - mask) * h
        outputs.append(h * mask)
    return torch.stack(outputs, 1), h


def _of_a_list(self: Any, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    h, c = _zeros(x), _zeros(x)
    for t in range(max(lengths.tolist())):
        alive = (t < lengths).unsqueeze(1)
        new_h, new_c = self.cell(x[:, t], h, c)
        h, c = torch.where(alive, new_h, h), torch.where(alive, new_c, c)
    return h, c


def _while(self: Any, x: Tensor, lengths: Tensor, h_0: Tensor) -> Tensor:
    h, t = h_0, 0
    while t < lengths.max():
        h = self.cell(x[:, t], h)
        t += 1
    return h


def _break(self: Any, x: Tensor, lengths: Tensor) -> Tensor:
    h = _zeros(x)
    for t in range(x.size(1)):
        if t >= lengths.max():
            break
        h = self.cell(x[:, t], h)
    return h


def _index(self: Any, x: Tensor, lengths: Tensor) -> Tensor:
    h, outputs = _zeros(x), []
    for t in range(lengths.max()):  # type: ignore[arg-type]
        h = self.cell(x[:, t], h)
        outputs.append(self.head(h))
    return torch.stack(outputs, 1)


def _backwards(self: Any, x: Tensor, lengths: Tensor, h_0: Tensor) -> tuple[Tensor, Tensor]:
    h, outputs = h_0, []
    for t in reversed(range(int(torch.max(lengths)))):
        h = torch.where((t < lengths)[:, None], self.cell(x[:, t], h), h)
        outputs.insert(0, h)
    return torch.stack(outputs, 1), h


def _cut_first(self: Any, ids: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    longest = int(lengths.max())
    x = self.embedding(ids[:, :longest])
    h, out = _zeros(x), torch.zeros(x.size(0), longest, HIDDEN)
    for t in range(longest):
        h = self.cell(x[:, t], h)
        out[:, t] = h
    mask = torch.arange(longest)[None] < lengths[:, None]
    return out * mask.unsqueeze(-1), h


def _written_to_the_full_size(self: Any, x: Tensor, lengths: Tensor) -> Tensor:
    h, out = _zeros(x), torch.zeros(x.size(0), x.size(1), HIDDEN)
    for t in range(int(lengths.max())):
        h = self.cell(x[:, t], h)
        out[:, t] = h
    return out


def _mean(self: Any, x: Tensor, lengths: Tensor) -> Tensor:
    longest, h, total = lengths.max().item(), _zeros(x), _zeros(x)
    for t in range(longest):  # type: ignore[arg-type]
        h = self.cell(x[:, t], h)
        total = total + h
    return total / longest


def _one_less(self: Any, x: Tensor, lengths: Tensor) -> Tensor:
    h = _zeros(x)
    for t in range(1, int(lengths.max())):
        h = self.cell(x[:, t], h)
    return h


def _masked(self: Any, x: Tensor, mask: Tensor, h_0: Tensor) -> tuple[Tensor, Tensor]:
    h, outputs = h_0, []
    for t in range(int(mask.sum(1).max())):
        h = torch.where(mask[:, t, None], self.cell(x[:, t], h), h)
        outputs.append(h)
    return torch.stack(outputs, 1), h


def _both_ways(self: Any, x: Tensor, lengths: Tensor) -> Tensor:
    n = int(lengths.max())
    h, g, forward, backward = _zeros(x), _zeros(x), [], []
    for t in range(n):
        h, g = self.first(x[:, t], h), self.second(x[:, n - 1 - t], g)
        forward.append(h)
        backward.append(g)
    return torch.cat([torch.stack(forward, 1), torch.stack(backward[::-1], 1)], -1)


def _behind_a_pack(self: Any, x: Tensor, lengths: Tensor) -> Tensor:
    packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    y, _ = pad_packed_sequence(self.recurrent(packed)[0], batch_first=True)
    h, outputs = _zeros(x), []
    for t in range(y.size(1)):
        h = self.cell(y[:, t], h)
        outputs.append(h)
    return torch.stack(outputs, 1)


def _encoder_decoder(self: Any, x: Tensor, lengths: Tensor, y: Tensor, y_lengths: Tensor) -> Tensor:
    h = _zeros(x)
    for t in range(int(lengths.max())):
        h = torch.where((t < lengths)[:, None], self.first(x[:, t], h), h)
    outputs = []
    for t in range(int(y_lengths.max())):
        h = self.second(y[:, t], h)
        outputs.append(self.head(h))
    return torch.stack(outputs, 1)


def _positions(self: Any, x: Tensor, lengths: Tensor) -> Tensor:
    longest = lengths.max(dim=0).values.item()
    h, x = _zeros(x), x[:, :longest] + self.positions.weight[:longest]
    for t in range(longest):  # type: ignore[arg-type]
        h = torch.where((t < lengths)[:, None], self.cell(x[:, t], h), h)
    return h


def _lstm(self: Any, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    state, outputs = None, []
    for t in range(int(lengths.max())):
        state = self.cell(x[:, t], state)
        outputs.append(state[0])
    assert state is not None
    return torch.stack(outputs, 1), *state


LOOPS: dict[str, tuple[Callable[..., Any], tuple[Input, ...], dict[str, Part]]] = {
    "int": (_int, (X, LENGTHS), {"cell": GRU}),
    "int32": (_int, (X, INT32), {"cell": HandGRU}),
    "item": (_item, (X, LENGTHS), {"cell": Elman}),
    "list": (_of_a_list, (X, LENGTHS), {"cell": JoinedLSTM}),
    "while": (_while, (X, LENGTHS, H_0), {"cell": GRU}),
    "break": (_break, (X, LENGTHS), {"cell": GRU}),
    "index": (_index, (X, LENGTHS), {"cell": GRU, "head": HEAD}),
    "backwards": (_backwards, (X, LENGTHS, H_0), {"cell": GRU}),
    "cut-first": (_cut_first, (IDS, LENGTHS), {"cell": GRU, "embedding": TABLE}),
    "written-to-the-full-size": (_written_to_the_full_size, (X, LENGTHS), {"cell": GRU}),
    "mean": (_mean, (X, LENGTHS), {"cell": Elman}),
    "one-less": (_one_less, (X, LENGTHS), {"cell": GRU}),
    "masked": (_masked, (X, MASK, H_0), {"cell": GRU}),
    "both-ways": (_both_ways, (X, LENGTHS), {"first": GRU, "second": Elman}),
    "behind-a-pack": (
        _behind_a_pack,
        (X, LENGTHS),
        {"recurrent": lambda: nn.GRU(FEATURES, FEATURES, batch_first=True), "cell": GRU},
    ),
    "encoder-decoder": (_encoder_decoder, (X, LENGTHS, Y, Y_LENGTHS), {"first": GRU, "second": GRU, "head": HEAD}),
    "positions": (_positions, (X, LENGTHS), {"cell": GRU, "positions": partial(nn.Embedding, 50, FEATURES)}),
    "lstm": (_lstm, (X, LENGTHS), {"cell": LSTM}),
}
