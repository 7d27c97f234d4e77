"""PyTorch modules that compute with lengths: sorted by hand, shortened with the steps, as lists, as fractions."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from seqport.exporters import Input
from support.torch_attention import run_packed
from support.torch_models import FEATURES, HIDDEN, IDS, LENGTHS, VOCABULARY, X
from support.torch_rows import Row, made


def restored_by_scatter(self: Any, x: Tensor, lengths: Tensor) -> Tensor:
    order = torch.argsort(lengths, descending=True)
    back = torch.zeros_like(order).scatter_(0, order, torch.arange(lengths.size(0)))
    packed = pack_padded_sequence(torch.index_select(x, 0, order), lengths[order].cpu(), batch_first=True)
    y, _ = pad_packed_sequence(self.recurrent(packed)[0], batch_first=True)
    return torch.index_select(y, 0, back)


def restored_in_place(self: Any, ids: Tensor, lengths: Tensor) -> Tensor:
    lengths, order = lengths.sort(descending=True)
    packed = pack_padded_sequence(self.embedding(ids[order]), lengths, batch_first=True)
    y, _ = pad_packed_sequence(self.recurrent(packed)[0], batch_first=True)
    out = torch.zeros_like(y)
    out[order] = y
    return out


def a_list_of_them(self: Any, x: Tensor, lengths: Tensor) -> Tensor:
    packed = pack_padded_sequence(x, list(lengths.cpu()), batch_first=True, enforce_sorted=False)  # type: ignore[arg-type]
    return self.recurrent(packed)[1]


def longest_of_a_list(self: Any, x: Tensor, lengths: Tensor) -> Tensor:
    numbers = lengths.tolist()
    packed = pack_padded_sequence(x, numbers, batch_first=True, enforce_sorted=False)
    return pad_packed_sequence(self.recurrent(packed)[0], batch_first=True, total_length=max(numbers))[0]


def asserted(self: Any, x: Tensor, lengths: Tensor) -> Tensor:
    assert lengths.max() <= x.size(1)
    return run_packed(self.recurrent, x, lengths)


def padded_back(self: Any, x: Tensor, lengths: Tensor) -> Tensor:
    y = run_packed(self.recurrent, x, lengths)
    if y.size(1) < x.size(1):
        y = torch.cat([y, y.new_zeros(y.size(0), x.size(1) - y.size(1), y.size(2))], 1)
    return y


def state_of_the_batch_sizes(self: Any, x: Tensor, lengths: Tensor) -> Tensor:
    packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    h_0 = torch.zeros(1, int(packed.batch_sizes[0]), HIDDEN)
    return self.recurrent(packed, h_0)[1]


def zeros_of_old(self: Any, x: Tensor, lengths: Tensor) -> Tensor:
    weight = next(self.parameters()).data
    packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    return self.recurrent(packed, weight.new(1, len(x), HIDDEN).zero_())[1]


def halved(self: Any, x: Tensor, lengths: Tensor) -> Tensor:
    packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    y, y_lengths = pad_packed_sequence(self.recurrent(packed)[0], batch_first=True)
    y = functional.pad(y, (0, 0, 0, y.size(1) % 2))
    y = y.reshape(y.size(0), y.size(1) // 2, -1)  # [batch, steps / 2, 2 * size]
    return run_packed(self.second, y, (y_lengths + 1) // 2)


def convolved(self: Any, x: Tensor, lengths: Tensor) -> Any:
    z = self.pool(torch.relu(self.conv(x.transpose(1, 2)))).transpose(1, 2)
    shorter = ((lengths - 3) // 2 + 1) // 2
    return run_packed(self.recurrent, z, shorter, total_length=z.size(1)), shorter


def fractions(self: Any, x: Tensor, fraction: Tensor) -> Tensor:
    lengths = (fraction.sigmoid() * x.size(1)).round().long().clamp(min=1)
    return run_packed(self.recurrent, x, lengths, total_length=x.size(1))


def norm_on_data(self: Any, x: Tensor, lengths: Tensor) -> Tensor:
    packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    packed = self.recurrent(packed)[0]
    packed = packed._replace(data=self.norm(packed.data))
    return pad_packed_sequence(packed, batch_first=True)[0]


def ids_packed(self: Any, ids: Tensor, lengths: Tensor) -> Tensor:
    data, *rest = pack_padded_sequence(ids, lengths, batch_first=True, enforce_sorted=False)
    packed = PackedSequence(self.embedding(data), *rest)
    return pad_packed_sequence(self.recurrent(packed)[0], batch_first=True)[0]


def a_packed_answer(self: Any, x: Tensor, lengths: Tensor) -> PackedSequence:
    return self.recurrent(pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False))[0]


def without_autocast(self: Any, x: Tensor, lengths: Tensor) -> Tensor:
    with torch.autocast("cpu", enabled=False):
        return run_packed(self.recurrent, x.float(), lengths)


def rows() -> list[Row]:
    """One row a module."""
    gru = {"recurrent": lambda: nn.GRU(FEATURES, HIDDEN, batch_first=True)}
    embedded = {**gru, "embedding": lambda: nn.Embedding(VOCABULARY, FEATURES)}
    second = {**gru, "second": lambda: nn.LSTM(2 * HIDDEN, HIDDEN, batch_first=True)}
    cnn = {**gru, "conv": lambda: nn.Conv1d(FEATURES, FEATURES, 3, stride=2), "pool": lambda: nn.MaxPool1d(2)}
    return [
        made("restored-by-scatter", restored_by_scatter, (X, LENGTHS), gru),
        made("restored-in-place", restored_in_place, (IDS, LENGTHS), embedded),
        made("a-list-of-lengths", a_list_of_them, (X, LENGTHS), gru),
        made("longest-of-a-list", longest_of_a_list, (X, LENGTHS), gru),
        made("asserted-lengths", asserted, (X, LENGTHS), gru),
        made("padded-back", padded_back, (X, LENGTHS), gru),
        made("state-of-the-batch-sizes", state_of_the_batch_sizes, (X, LENGTHS), gru),
        made("zeros-of-old", zeros_of_old, (X, LENGTHS), gru),
        made("halved", halved, (X, LENGTHS), second),
        made("convolved-lengths", convolved, (X, LENGTHS), cnn, shortest=5),
        made("fractions", fractions, (X, Input("fraction", ("batch",))), gru),
        made("norm-on-data", norm_on_data, (X, LENGTHS), {**gru, "norm": lambda: nn.BatchNorm1d(HIDDEN)}),
        made("ids-packed", ids_packed, (IDS, LENGTHS), embedded),
        made("a-packed-answer", a_packed_answer, (X, LENGTHS), gru),
        made("without-autocast", without_autocast, (X, LENGTHS), gru),
    ]
