"""PyTorch modules by what they take and return, what bounds their steps, and how their weights come about."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from seqport.exporters import Input
from support.torch_attention import run_packed
from support.torch_models import FEATURES, HIDDEN, IDS, LENGTHS, VOCABULARY, Wrapped, X
from support.torch_rows import Row, made


class Tokens(NamedTuple):
    """A batch as a named tuple."""

    ids: Any
    lengths: Any


@dataclass
class Encoded:
    """A batch, or an answer, as a dataclass."""

    ids: Any
    lengths: Any = None


class KeywordOnly(Wrapped):
    """Lengths by name alone."""

    def forward(self: Any, x: Tensor, *, lengths: Tensor) -> Tensor:  # type: ignore[override]
        return run_packed(self.recurrent, x, lengths)


class Defaults(Wrapped):
    """Lengths after what is mostly left out."""

    def forward(self: Any, x: Tensor, h_0: Tensor | None = None, lengths: Tensor | None = None) -> Tensor:  # type: ignore[override]
        return self.recurrent(x, h_0)[0] if lengths is None else run_packed(self.recurrent, x, lengths)


class OfTokens(Wrapped):
    """One argument of several tensors, by the annotation a dataclass."""

    def forward(self: Any, batch: Encoded) -> Encoded:  # type: ignore[override]
        y = run_packed(self.recurrent, self.embedding(batch.ids), batch.lengths)
        return Encoded(y, y.argmax(-1))


class Positions(nn.Module):
    """A learned position of each step, from a table or a parameter."""

    def __init__(self, table: bool) -> None:
        super().__init__()
        self.table = nn.Embedding(40, FEATURES) if table else None
        self.positions = nn.Parameter(torch.randn(1, 40, FEATURES))
        self.recurrent = nn.GRU(FEATURES, HIDDEN, batch_first=True)

    def forward(self: Any, x: Tensor, lengths: Tensor) -> Tensor:
        if self.table is None:
            return run_packed(self.recurrent, x + self.positions[:, : x.size(1)], lengths)
        steps = torch.arange(x.size(1)).expand(x.shape[:2])
        return run_packed(self.recurrent, x + self.table(steps), lengths)


class DroppedWeights(nn.Module):
    """Recurrent weights set anew in each forward, as weight drop does."""

    def __init__(self) -> None:
        super().__init__()
        self.recurrent = nn.LSTM(FEATURES, HIDDEN, batch_first=True)
        raw = self.recurrent.weight_hh_l0
        del self.recurrent._parameters["weight_hh_l0"]
        self.raw = nn.Parameter(torch.as_tensor(raw).data)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        self.recurrent.weight_hh_l0 = nn.functional.dropout(self.raw, 0.5, self.training)  # type: ignore[assignment]
        return run_packed(self.recurrent, x, lengths)


class StateOfAnImage(nn.Module):
    """A caption's first state, computed by a convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, HIDDEN, 3, padding=1)
        self.recurrent = nn.LSTM(FEATURES, HIDDEN, batch_first=True)

    def forward(self, image: Tensor, x: Tensor, lengths: Tensor) -> Tensor:
        h_0 = self.conv(image).relu().mean((2, 3))[None]
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        return self.recurrent(packed, (h_0, torch.tanh(h_0)))[1][0][-1]


def first_twenty(self: Any, x: Tensor, lengths: Tensor) -> Tensor:
    return run_packed(self.recurrent, x[:, :20], lengths.clamp(max=20))


def last_twenty(self: Any, x: Tensor) -> Tensor:
    return self.recurrent(x[:, -20:])[0]


def from_the_third(self: Any, x: Tensor) -> Tensor:
    return self.recurrent(x[:, 2:])[0]


def a_size(self: Any, x: Tensor, lengths: Tensor) -> Any:
    return run_packed(self.recurrent, x, lengths), x.size(1)


def _orthogonal() -> nn.Module:
    return parametrizations.orthogonal(nn.RNN(FEATURES, HIDDEN, batch_first=True), "weight_hh_l0")


def rows() -> list[Row]:
    """One row a module."""
    gru = {"recurrent": lambda: nn.GRU(FEATURES, HIDDEN, batch_first=True)}

    def parts() -> dict[str, nn.Module]:
        return {"recurrent": gru["recurrent"](), "embedding": nn.Embedding(VOCABULARY, FEATURES)}

    def encoded(values: dict[str, Any]) -> tuple[Any, ...]:
        return (Encoded(**values),)

    return [
        Row("keyword-only", lambda: KeywordOnly(a_size, **parts()), (X, LENGTHS), by_name=True),
        Row("defaults-between", lambda: Defaults(a_size, **parts()), (X, LENGTHS), by_name=True),
        Row("a-dataclass", lambda: OfTokens(a_size, **parts()), (IDS, LENGTHS), arranged=encoded),
        Row(
            "a-named-tuple",
            lambda: OfTokens(a_size, **parts()),
            (IDS, LENGTHS),
            nested=(Tokens(IDS, LENGTHS),),
            arranged=encoded,
        ),
        Row("positions-of-a-table", lambda: Positions(table=True), (X, LENGTHS)),
        Row("positions-of-a-parameter", lambda: Positions(table=False), (X, LENGTHS)),
        Row("weights-dropped", DroppedWeights, (X, LENGTHS)),
        Row("state-of-an-image", StateOfAnImage, (Input("image", ("batch", 1, 4, 4)), X, LENGTHS)),
        made("first-twenty", first_twenty, (X, LENGTHS), gru),
        made("last-twenty", last_twenty, (X,), gru),
        made("from-the-third", from_the_third, (X,), gru, shortest=3),
        made("a-size", a_size, (X, LENGTHS), gru),
        made("orthogonal", a_size, (X, LENGTHS), {"recurrent": _orthogonal}),
    ]
