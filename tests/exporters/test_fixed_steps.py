"""Outputs of a sequence axis whose size is fixed are cut to an item's steps, and no other axis of that size is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from seqport.exporters import Input, export
from seqport.runtime import Session

STEPS = 12
INPUTS = [Input("x", ("batch", STEPS, 3), "float32"), Input("lengths", ("batch",), "int64")]


class Tagger(torch.nn.Module):
    """Gives of one layer what its kind says; as many units as steps, so that sizes tell nothing."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer, self.kind = torch.nn.LSTM(3, STEPS, batch_first=True, bidirectional=kind == "both"), kind

    def forward(self, x: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        packed, (h, _) = self.layer(packed)
        y, _ = pad_packed_sequence(packed, batch_first=True, total_length=STEPS)
        if self.kind == "classes":
            y = y.argmax(-1)
        elif self.kind == "added":  # what stands in the padding is the input's
            y = y + x.sum(-1, keepdim=True)
        elif self.kind == "turned":
            y = y.transpose(1, 2)
        return y, h[-1]


@pytest.mark.parametrize(("kind", "axis"), [("both", 1), ("classes", 1), ("added", 1), ("turned", 2)])
def test_answers_end_where_their_item_does(kind: str, axis: int, tmp_path: Path) -> None:
    model = Tagger(kind).eval()
    path = export(model, tmp_path / "m.onnx", INPUTS, ["y", "h"]).path
    session = Session(path, "cpu")
    assert dict(session.description.sequences[0].outputs) == {"y": axis}
    items = [np.random.default_rng(n).standard_normal((n, 3)).astype(np.float32) for n in (5, 12, 1, 7)]
    for item, answer in zip(items, session.predict(items), strict=True):
        padded = np.pad(item, ((0, STEPS - len(item)), (0, 0)))[None]
        with torch.no_grad():
            y, h = model(torch.from_numpy(padded), torch.tensor([len(item)]))
        np.testing.assert_allclose(answer["y"], np.take(y[0].numpy(), range(len(item)), axis - 1), atol=1e-5)
        np.testing.assert_allclose(answer["h"], h[0].numpy(), atol=1e-5)
