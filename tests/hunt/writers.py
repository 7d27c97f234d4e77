"""Models that write: each token goes back in, and what the model says is logits, probabilities or scores."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from hunt.layers import CELLS, FEATURES, HIDDEN, IDS, Spec
from seqport.errors import SeqportError
from seqport.exporters import Input
from seqport.runtime import Session

TOKENS, _STEPS, _DRAWN = IDS, 8, 2000
_CLOSE = 0.06  # five deviations of a token, among so many drawn

# What is made of logits [batch, seq, tokens], and whether that is to be drawn as it is.
SAYS: dict[str, tuple[Callable[[Tensor], Tensor], bool]] = {
    "logits": (lambda o: o, False),
    "logarithms": (lambda o: o.log_softmax(-1), False),
    "banned logits": (lambda o: o.masked_fill(torch.arange(TOKENS) < 2, -torch.inf), False),
    "cold logits": (lambda o: o / 0.5, False),
    "logits that only large states lose": (lambda o: o + (o.abs() > 60) * (o / 0 - o / 0), False),
    "softmax": (lambda o: o.softmax(-1), True),
    "banned": (lambda o: o.softmax(-1) * (torch.arange(TOKENS) > 1), True),
    "smoothed": (lambda o: o.softmax(-1) * 0.9 + 0.1 / TOKENS, True),
    "scores": (lambda o: o.sigmoid(), True),
}


class Writer(nn.Module):
    """ids [batch, seq] and the state before → what it says, and the state behind."""

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        self.embed = nn.Embedding(TOKENS, FEATURES)
        self.layer = CELLS["RNN" if spec["cell"] == "RNN" else "GRU"](FEATURES, HIDDEN, batch_first=True)
        self.out, self.say = nn.Linear(HIDDEN, TOKENS), SAYS[spec["says"]][0]

    def forward(self, ids: Tensor, h_0: Tensor) -> tuple[Tensor, Tensor]:
        y, h = self.layer(self.embed(ids), h_0)
        return self.say(6 * self.out(y)), h


def writer_inputs(spec: Spec) -> list[Input]:
    """Its inputs."""
    del spec
    return [Input("ids", ("batch", "seq"), "int64"), Input("h_0", (1, "batch", HIDDEN))]


def wrong_writing(session: Session, model: nn.Module, spec: Spec) -> str | None:
    """How tokens that a session writes are others than the model's."""
    first, states = np.arange(TOKENS), np.zeros((1, TOKENS, HIDDEN), np.float32)
    try:
        written = session.generate(first, max_steps=_STEPS, states={"h_0": states})
        drawn = np.concatenate(session.generate([3] * _DRAWN, max_steps=1, temperature=1.0, seed=1))
    except SeqportError:
        return None
    for token, row in zip(first, written, strict=True):
        if (said := _by_hand(model, int(token))) != row.tolist():
            return f"generate writes {row.tolist()} behind {token}, and the model {said}"
    with torch.no_grad():
        said = model(torch.tensor([[3]]), torch.zeros(1, 1, HIDDEN))[0][0, 0].double()
    expected = (said / said.sum() if SAYS[spec["says"]][1] else said.softmax(-1)).numpy()
    gap = float(np.abs(np.bincount(drawn, minlength=TOKENS) / len(drawn) - expected).max())
    return f"generate draws tokens {gap:.2g} too often or too seldom" if gap > _CLOSE else None


def _by_hand(model: nn.Module, token: int) -> list[int]:
    written, h = [], torch.zeros(1, 1, HIDDEN)
    with torch.no_grad():
        for _ in range(_STEPS):
            said, h = model(torch.tensor([[token]]), h)
            token = int(said[0, 0].argmax())
            written.append(token)
    return written
