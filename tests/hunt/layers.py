"""The recurrent part of a hunted model: a layer or a loop, with pieces before and behind it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from hunt.pieces import BEHIND, CONFIG, FRONT, STOPS, Limit

Spec = dict[str, Any]
FEATURES, HIDDEN, WIDE = 4, 6, 5000
FEATURES_OF_A_ROW, IDS = 5, 50
CELLS = {"GRU": nn.GRU, "LSTM": nn.LSTM, "RNN": nn.RNN}


class Hunted(nn.Module):
    """The model of a spec, short of what its inputs are."""

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        self.spec, self.way = spec, spec.get("way", "attribute")
        self.layer = CELLS[spec["cell"]](FEATURES, HIDDEN, batch_first=True)
        self.cell = nn.GRUCell(FEATURES, HIDDEN)
        self.wide = nn.Linear(HIDDEN, WIDE)
        self.project, self.embed = nn.Linear(FEATURES_OF_A_ROW, HIDDEN), nn.Embedding(IDS + 2, FEATURES)
        self.stop = Limit(self.way, spec["loop"][1]) if spec["loop"] else None
        CONFIG.stop = spec["loop"][1] if spec["loop"] else 0

    def answer(
        self, x: Tensor, lengths: Tensor | None = None, h: Tensor | None = None, keep: Tensor | None = None
    ) -> Tensor:
        """What the model says.

        Args:
            x: [batch, seq, features].
            lengths: [batch].
            h: the initial state, [1, batch, units].
            keep: which steps count, [batch, seq].
        """
        for kind, *numbers in self.spec["front"]:
            x = FRONT[kind][0](x, *numbers)
        y = self._steps(x, lengths, h) if self.stop else self._layer(x, lengths, h)
        if keep is not None:
            y = y * keep[..., None]
        for kind, *numbers in self.spec["behind"]:
            y = BEHIND[kind][0](self, y, *numbers)
        return y

    def _layer(self, x: Tensor, lengths: Tensor | None, h: Tensor | None) -> Tensor:
        state = None if h is None else (h, torch.zeros_like(h)) if self.spec["cell"] == "LSTM" else h
        if lengths is None:
            return self.layer(x, state)[0]
        packed = pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
        return pad_packed_sequence(self.layer(packed, state)[0], batch_first=True, total_length=x.size(1))[0]

    def _steps(self, x: Tensor, lengths: Tensor | None, h_0: Tensor | None) -> Tensor:
        """A cell at every step, which ends at a step or holds its state from there on."""
        stops, out = STOPS[self.spec["loop"][0]], []
        h = x.new_zeros(x.size(0), HIDDEN) if h_0 is None else h_0[0]
        for t in range(x.size(1)):
            if not stops(self.stop, t, x.size(1)):  # type: ignore[arg-type]
                new = self.cell(x[:, t], h)
                h = new if lengths is None else torch.where((t < lengths)[:, None], new, h)
            out.append(h)
        return torch.stack(out, 1)
