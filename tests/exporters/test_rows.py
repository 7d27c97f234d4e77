"""Which rows may share a batch: none that see each other; whole numbers only where what they are made of agrees."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.torch_models import FEATURES, HIDDEN, LENGTHS, Wrapped, X
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from seqport.exporters import Artifact, export
from seqport.runtime import Session

Run = Callable[..., Tensor]


def _encoded(self: Any, x: Tensor, lengths: Tensor) -> Tensor:
    packed = pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
    return pad_packed_sequence(self.recurrent(packed)[0], batch_first=True, total_length=x.size(1))[0]


def _limited(self: Any, x: Tensor, lengths: Tensor) -> Tensor:
    """A limiter that sets in at 8, over the whole batch."""
    return _encoded(self, x / (x.abs().max() / 8).clamp(min=1.0), lengths)


def _sorted(self: Any, x: Tensor, lengths: Tensor) -> Tensor:
    """Rows sorted by length, and not put back."""
    order = lengths.sort(descending=True)[1]
    return _encoded(self, x[order], lengths[order])


DEPENDENT: dict[str, Run] = {
    "a softmax over the rows": lambda self, x, n: torch.softmax(_encoded(self, x, n).sum(1), 0),
    "the mean of the rows taken off": lambda self, x, n: (
        _encoded(self, x, n)[:, 0] - _encoded(self, x, n)[:, 0].mean(0)
    ),
    "a little of the row before": lambda self, x, n: _encoded(self, x, n) + 1e-2 * _encoded(self, x, n).roll(1, 0),
    "a limiter over the batch": _limited,
    "a flag against the mean of the rows": lambda self, x, n: _encoded(self, x, n)[:, 0, 0] > x.mean() / 1e3,
    "no more than 16 rows": lambda self, x, n: (
        _encoded(self, x, n) * (torch.ones(x.size(0)).cumsum(0) <= 16)[:, None, None]
    ),
    "no more than 200 steps": lambda self, x, n: _encoded(self, x, n) * (torch.cumsum(n, 0) < 200)[:, None, None],
    "a sign by how many are positive": lambda self, x, n: _encoded(
        self, torch.where((x > 0).float().mean() > 0.8, -x, x), n
    ),
    "rows that are the same": lambda self, x, n: (
        _encoded(self, x, n) / (x[:, None] == x[None]).flatten(2).all(-1).sum(1)[:, None, None]
    ),
    "a row of nothing": lambda self, x, n: _encoded(self, x, n) * (1 - (x.abs().sum((1, 2)) == 0).any().float()),
    "a row of NaN": lambda self, x, n: _encoded(self, x, n) * (1 - torch.isnan(x).any().float()),
    "a rank among the rows": lambda self, x, n: _encoded(self, x, n)[:, 0, 0].argsort(),
}
PADDING_MATTERS: dict[str, Run] = {
    "rows sorted by length and not put back": _sorted,
    "a class by a mean over all steps": lambda self, x, n: _encoded(self, x, n).mean(1).argmax(-1),
    "a small mean over all steps": lambda self, x, n: _encoded(self, x, n).mean(1) * 1e-6,
    "a flag of any step": lambda self, x, n: (_encoded(self, x, n).mean(1) > 0.02).any(-1),
    "the last fifty steps": lambda self, x, n: _encoded(self, x, n)[:, -50:].sum(1),
    "the longest row, from 60 steps on": lambda self, x, n: (
        _encoded(self, x, n)[:, 0] * torch.full((1,), 1.0).mul(x.size(1)).clamp(min=60.0)
    ),
    "a row 25 steps behind the longest": lambda self, x, n: (
        _encoded(self, x, n)[:, 0] * (((n.max() - n) > 25).float()[:, None] + 1)
    ),
    "twenty padded steps": lambda self, x, n: (
        _encoded(self, x, n)[:, 0] * (1 + ((x == 0).all(-1).sum(1) > 20).float())[:, None]
    ),
    "a rounded mean": lambda self, x, n: (_encoded(self, x, n).mean(1) * 3).round(),
}
INDEPENDENT: dict[str, Run] = {
    "every step": _encoded,
    "a class for each step": lambda self, x, n: _encoded(self, x, n).argmax(-1),
    "small answers": lambda self, x, n: _encoded(self, x, n) * 1e-6,
    "a softmax over the units": lambda self, x, n: torch.softmax(_encoded(self, x, n), -1),
    "a mean over valid steps": lambda self, x, n: _encoded(self, x, n).sum(1) / n[:, None],
    "a choice by a flag of the row": lambda self, x, n: torch.where(
        (x.sum((1, 2)) > 0)[:, None, None], _encoded(self, x, n), _encoded(self, -x, n)
    ),
    "each row by its own largest value": lambda self, x, n: _encoded(
        self, x / x.abs().amax((1, 2), keepdim=True).clamp(min=1e-6), n
    ),
}


@pytest.fixture
def exported(tmp_path: Path) -> Callable[[Run], tuple[nn.Module, Artifact]]:
    def make(run: Run) -> tuple[nn.Module, Artifact]:
        torch.manual_seed(1)
        model = Wrapped(run, recurrent=nn.GRU(FEATURES, HIDDEN, batch_first=True)).eval()
        return model, export(model, tmp_path / "m.onnx", [X, LENGTHS])

    return make


def _alone_is_predicted(model: nn.Module, artifact: Artifact) -> None:
    random = np.random.default_rng(0)
    rows = [
        random.standard_normal((n, FEATURES)).astype(np.float32) * k for n, k in ((3, 1), (9, 30), (5, 0.1), (9, 1))
    ]
    for row, answer in zip(rows, Session(artifact.path, provider="cpu").predict(rows), strict=True):
        with torch.no_grad():
            expected = model(torch.from_numpy(row)[None], torch.tensor([len(row)]))[0].numpy()
        scale = max(1e-12, float(np.abs(expected).max()))
        np.testing.assert_allclose(next(iter(answer.values())) / scale, expected / scale, atol=1e-5)


@pytest.mark.parametrize("name", DEPENDENT)
def test_rows_that_see_each_other_never_share_a_batch(name: str, exported: Callable) -> None:
    model, artifact = exported(DEPENDENT[name])
    assert not artifact.description.rows_independent
    assert not artifact.description.sequences[0].padded
    _alone_is_predicted(model, artifact)


@pytest.mark.parametrize("name", PADDING_MATTERS)
def test_whole_and_small_numbers_prove_nothing_by_agreeing(name: str, exported: Callable) -> None:
    model, artifact = exported(PADDING_MATTERS[name])
    assert artifact.description.rows_independent
    assert not artifact.description.sequences[0].padded
    _alone_is_predicted(model, artifact)


@pytest.mark.parametrize("name", INDEPENDENT)
def test_rows_that_do_not_share_their_batches(name: str, exported: Callable) -> None:
    model, artifact = exported(INDEPENDENT[name])
    assert artifact.description.rows_independent
    assert artifact.description.sequences[0].padded
    _alone_is_predicted(model, artifact)
