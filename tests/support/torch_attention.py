"""PyTorch modules that look at the steps of a recurrent layer: attention, pooling, last steps, nested sequences."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from seqport.exporters import Input
from support.torch_models import FEATURES, HIDDEN, LENGTHS, VOCABULARY, X_TIME_MAJOR, X
from support.torch_rows import Row, made


def run_packed(layer: nn.Module, x: Tensor, lengths: Tensor, **options: Any) -> Tensor:
    """The padded outputs of a layer, batch first."""
    packed = pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
    return pad_packed_sequence(layer(packed)[0], batch_first=True, **options)[0]


def gathered_last(self: Any, x: Tensor, lengths: Tensor) -> Tensor:
    y = run_packed(self.recurrent, x, lengths)
    index = (lengths - 1).view(-1, 1).expand(len(lengths), y.size(2)).unsqueeze(1)
    return y.gather(1, index).squeeze(1)


def last_of_both_directions(self: Any, x: Tensor, lengths: Tensor) -> Tensor:
    y = run_packed(self.both, x, lengths)
    return torch.cat((y[range(len(y)), lengths - 1, :HIDDEN], y[:, 0, HIDDEN:]), 1)


def one_hot_last(self: Any, x: Tensor, lengths: Tensor) -> Tensor:
    y = self.recurrent(x)[0]
    return torch.einsum("bt,bth->bh", functional.one_hot(lengths - 1, x.size(1)).to(y.dtype), y)


def max_of_valid_steps(self: Any, x: Tensor, lengths: Tensor) -> Any:
    y = run_packed(self.recurrent, x, lengths, padding_value=float("-inf"))
    return y.max(dim=1).values, y.argmax(1)


def flat_valid_steps(self: Any, x: Tensor, lengths: Tensor) -> Tensor:
    y = self.recurrent(x)[0]
    return y[torch.arange(x.size(1)) < lengths[:, None]]


def mask_to_the_longest(self: Any, x: Tensor, lengths: Tensor) -> Tensor:
    longest: Any = lengths.max().item()
    mask = torch.arange(longest).expand(x.size(0), longest) < lengths.unsqueeze(1)
    y = run_packed(self.recurrent, x, lengths, total_length=longest)
    return torch.where(mask.unsqueeze(-1), y, torch.full_like(y, -1.0))


def multi_head(self: Any, x: Tensor, lengths: Tensor) -> Any:
    y = run_packed(self.wide, x, lengths, total_length=x.size(1))
    padding = torch.arange(x.size(1)) >= lengths[:, None]
    return self.attention(y, y, y, key_padding_mask=padding)


def multi_head_of_a_cut(self: Any, x: Tensor, lengths: Tensor) -> Tensor:
    packed = pack_padded_sequence(x, lengths, enforce_sorted=False)
    y, _ = pad_packed_sequence(self.wide(packed)[0])
    padding = torch.arange(y.size(0))[None] >= lengths[:, None]
    return self.attention(y, y, y, key_padding_mask=padding, need_weights=False)[0]


def transformer_after(self: Any, x: Tensor, lengths: Tensor) -> Tensor:
    y = run_packed(self.wide, x, lengths, total_length=x.size(1))
    padding = torch.arange(x.size(1)) >= lengths[:, None]
    return self.transformer(y, src_key_padding_mask=padding) * ~padding[..., None]


def luong(self: Any, x: Tensor, lengths: Tensor, y: Tensor) -> Any:
    encoded = run_packed(self.recurrent, x, lengths, total_length=x.size(1))
    decoded, _ = self.decoder(y)
    mask = torch.arange(x.size(1)).expand(len(lengths), x.size(1)) < lengths.unsqueeze(1)
    scores = decoded @ self.score(encoded).transpose(1, 2)
    weights = scores.masked_fill(~mask.unsqueeze(1), -1e9).softmax(-1)
    return weights @ encoded, weights


def aligned_pair(self: Any, x: Tensor, lengths: Tensor, z: Tensor, z_lengths: Tensor) -> Tensor:
    one, other = run_packed(self.both, x, lengths), run_packed(self.both, z, z_lengths)
    beyond = torch.arange(other.size(1)) >= z_lengths[:, None]
    scores = (one @ other.transpose(1, 2)).masked_fill(beyond[:, None], float("-inf"))
    return (scores.softmax(-1) @ other).max(1)[0]


def characters_of_words(self: Any, chars: Tensor, lengths: Tensor, chars_lengths: Tensor) -> Tensor:
    batch, words, size = chars.shape
    packed = pack_padded_sequence(
        self.embedding(chars.view(-1, size)), chars_lengths.view(-1), batch_first=True, enforce_sorted=False
    )
    h = self.words(packed)[1].transpose(0, 1).reshape(batch, words, -1)
    return run_packed(self.recurrent, h, lengths)


def _gru(inputs: int = FEATURES, hidden: int = HIDDEN, **options: Any) -> Any:
    return lambda: nn.GRU(inputs, hidden, batch_first=True, **options)


_RECURRENT = {"recurrent": _gru()}
_BOTH = {"both": _gru(bidirectional=True)}
_WIDE = {"wide": _gru(hidden=8)}


def rows() -> list[Row]:
    """One row a module."""
    y = Input("y", ("batch", "out_seq", FEATURES))
    pair = (X, LENGTHS, Input("z", ("batch", "out_seq", FEATURES)), Input("z_lengths", ("batch",), "int64"))
    chars = (Input("chars", ("batch", "seq", "size"), "int64"), LENGTHS)
    return [
        made("gathered-last", gathered_last, (X, LENGTHS), _RECURRENT),
        made("last-of-both-directions", last_of_both_directions, (X, LENGTHS), _BOTH),
        made("one-hot-last", one_hot_last, (X, LENGTHS), _RECURRENT),
        made("max-of-valid-steps", max_of_valid_steps, (X, LENGTHS), _RECURRENT),
        made("flat-valid-steps", flat_valid_steps, (X, LENGTHS), _RECURRENT),
        made("mask-to-the-longest", mask_to_the_longest, (X, LENGTHS), _RECURRENT),
        made(
            "multi-head",
            multi_head,
            (X, LENGTHS),
            {**_WIDE, "attention": lambda: nn.MultiheadAttention(8, 2, batch_first=True)},
        ),
        made(
            "multi-head-of-a-cut",
            multi_head_of_a_cut,
            (X_TIME_MAJOR, LENGTHS),
            {"wide": lambda: nn.LSTM(FEATURES, 8), "attention": lambda: nn.MultiheadAttention(8, 4)},
        ),
        made(
            "transformer-after",
            transformer_after,
            (X, LENGTHS),
            {**_WIDE, "transformer": lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)},
        ),
        made(
            "luong",
            luong,
            (X, LENGTHS, y),
            {**_RECURRENT, "decoder": _gru(), "score": lambda: nn.Linear(HIDDEN, HIDDEN, bias=False)},
        ),
        made("aligned-pair", aligned_pair, pair, _BOTH),
        made(
            "characters-of-words",
            characters_of_words,
            (*chars, Input("chars_lengths", ("batch", "seq"), "int64")),
            {
                "embedding": lambda: nn.Embedding(VOCABULARY, 4),
                "words": lambda: nn.GRU(4, 3, batch_first=True, bidirectional=True),
                "recurrent": _gru(6),
            },
        ),
    ]
