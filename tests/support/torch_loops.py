"""Loops over time around PyTorch's cells, as users write them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from seqport.exporters import Input
from support.torch_models import FEATURES, HIDDEN, IDS, LENGTHS, VOCABULARY, X_TIME_MAJOR, X

GRU = partial(nn.GRUCell, FEATURES, HIDDEN)
LSTM = partial(nn.LSTMCell, FEATURES, HIDDEN)
RNN = partial(nn.RNNCell, FEATURES, HIDDEN)
ABOVE = partial(nn.GRUCell, HIDDEN, HIDDEN)
HEAD = partial(nn.Linear, HIDDEN, 3)
TABLE = partial(nn.Embedding, VOCABULARY, FEATURES)

MASK = Input("mask", ("batch", "seq"), "bool")
H_0 = Input("h_0", ("batch", HIDDEN))
C_0 = Input("c_0", ("batch", HIDDEN))


def _zeros(x: Tensor) -> Tensor:
    return x.new_zeros(x.size(0), HIDDEN)


def _split(self: Any, x: Tensor) -> Tensor:
    h, outputs = _zeros(x), []
    for step in x.split(1, 1):
        h = self.cell(step.squeeze(1), h)
        outputs.append(h.unsqueeze(1))
    return torch.cat(outputs, 1)


def _unbound_twice(self: Any, x: Tensor) -> Tensor:
    h, outputs = _zeros(x), []
    for step in torch.unbind(x.transpose(0, 1)):
        h = self.cell(step, h)
        outputs.append(h)
    outputs = [self.head(torch.relu(h)) for h in outputs]
    return torch.stack(outputs, -1)


def _written(self: Any, x: Tensor) -> Tensor:
    h = _zeros(x)
    out = torch.zeros(x.size(0), x.size(1), HIDDEN)
    for t in range(x.size(1)):
        h = self.cell(x[:, t, :], h)
        out[:, t, :] = h
    return out


def _written_time_major(self: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    steps, batch, _ = x.shape
    h, c = torch.zeros(batch, HIDDEN), torch.zeros(batch, HIDDEN)
    out = torch.empty(steps, batch, HIDDEN)
    for t in range(steps):
        h, c = self.cell(x[t], (h, c))
        out[t] = h
    return out, c


def _written_backwards(self: Any, x: Tensor) -> Tensor:
    h = _zeros(x)
    out = x.new_zeros(x.size(0), x.size(1), 3)
    for t in range(x.size(1) - 1, -1, -1):
        h = self.cell(x[:, t], h)
        out[:, t] = self.head(h).log_softmax(-1)
    return out


def _written_masked(self: Any, x: Tensor, lengths: Tensor) -> Tensor:
    h = _zeros(x)
    out = x.new_zeros(x.size(0), x.size(1), HIDDEN)
    for t in range(x.size(1)):
        valid = (t < lengths).unsqueeze(-1)
        h = torch.where(valid, self.cell(x[:, t], h), h)
        out[:, t] = h * valid
    return out


def _summed(self: Any, x: Tensor) -> Any:
    h, total = _zeros(x), 0
    for t in range(x.size(1)):
        h = self.cell(x[:, t], h)
        total = total + h
    return total / x.size(1)


def _summed_masked(self: Any, x: Tensor, lengths: Tensor) -> Tensor:
    h, total = _zeros(x), _zeros(x)
    for t in range(x.size(1)):
        h = self.cell(x[:, t], h)
        total += h * (t < lengths)[:, None]
    return total / lengths[:, None]


def _largest(self: Any, x: Tensor) -> Tensor:
    h, best = _zeros(x), torch.full((x.size(0), HIDDEN), float("-inf"))
    for step in x.unbind(1):
        h = self.cell(step, h)
        best = torch.maximum(best, h)
    return self.head(best)


def _running_mean(self: Any, x: Tensor) -> Tensor:
    h, total, outputs = _zeros(x), _zeros(x), []
    for t in range(x.size(1)):
        h = self.cell(x[:, t], h)
        total = total + h
        outputs.append(total / (t + 1))
    return torch.stack(outputs, 1)


def _last_kept(self: Any, x: Tensor, lengths: Tensor) -> Tensor:
    h, last = _zeros(x), _zeros(x)
    for t in range(x.size(1)):
        h = self.cell(x[:, t], h)
        last = torch.where((lengths - 1 == t).unsqueeze(1), h, last)
    return self.head(last)


def _multiplied(self: Any, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    h, outputs = _zeros(x), []
    for t in range(x.size(1)):
        m = mask[:, t].float().unsqueeze(-1)
        h = m * self.cell(x[:, t], h) + (1.0 - m) * h
        outputs.append(h * m)
    return torch.stack(outputs, 1), h


def _difference(self: Any, x: Tensor, mask: Tensor) -> Tensor:
    h = _zeros(x)
    for t in range(x.size(1)):
        h = h + mask[:, t : t + 1].float() * (self.cell(x[:, t], h) - h)
    return h


def _zeroed(self: Any, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    h, outputs = _zeros(x), []
    for t in range(x.size(1)):
        h = self.cell(x[:, t], h) * (t < lengths).float().unsqueeze(1)
        outputs.append(h)
    return torch.stack(outputs, 1), h


def _masked_by_ids(self: Any, ids: Tensor) -> Tensor:
    h = c = torch.zeros(ids.size(0), HIDDEN)
    for t in range(ids.size(1)):
        new_h, new_c = self.cell(self.embedding(ids[:, t]), (h, c))
        padded = (ids[:, t] == 0)[:, None]
        h, c = torch.where(padded, h, new_h), torch.where(padded, c, new_c)
    return self.head(h)


def _filled(self: Any, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    h, outputs = _zeros(x), []
    for step, keep in zip(x.unbind(1), mask.unbind(1), strict=True):
        h = torch.where(keep[:, None], self.cell(step, h), h)
        outputs.append(h.masked_fill(~keep[:, None], -1.0))
    return torch.stack(outputs, 1), h


def _given(self: Any, x: Tensor, h_0: Tensor, c_0: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    state, outputs = (h_0, c_0), []
    for step in x.unbind(dim=1):
        state = self.cell(step, state)
        outputs.append(state[0])
    return torch.stack(outputs, 1), state


def _all_but_last(self: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    h, total = _zeros(x), x.new_zeros(x.size(0), 3)
    for t in range(x.size(1) - 1):
        h = self.cell(x[:, t], h)
        total = total + (self.head(h) - x[:, t + 1, :3]) ** 2
    return total, h


def _all_but_last_backwards(self: Any, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    h, total = _zeros(x), x.new_zeros(x.size(0), 3)
    for t in range(x.size(1) - 2, -1, -1):
        h = torch.where((t < lengths)[:, None], self.cell(x[:, t], h), h)
        total = total + self.head(h)
    return total, h


def _grown(self: Any, x: Tensor) -> Tensor:
    h, outputs = _zeros(x), torch.zeros(x.size(0), 0, HIDDEN)
    for t in range(x.size(1)):
        h = self.cell(x[:, t], h)
        outputs = torch.cat([outputs, h.unsqueeze(1)], dim=1)
    return outputs


def _previous(self: Any, x: Tensor) -> Tensor:
    h, before, outputs = _zeros(x), torch.zeros_like(x[:, 0]), []
    for t in range(x.size(1)):
        h = self.cell(x[:, t] - before, h)
        before = x[:, t]
        outputs.append(h)
    return torch.stack(outputs, 1)


def _previous_state_read(self: Any, x: Tensor) -> Tensor:
    h, outputs = _zeros(x), []
    for t in range(x.size(1)):
        new = self.cell(x[:, t], h)
        outputs.append(self.head(new - h))
        h = new
    return torch.stack(outputs, 1)


def _unbatched(self: Any, x: Tensor) -> Tensor:
    h, outputs = torch.zeros(HIDDEN), []
    for step in x:
        h = self.cell(step, h)
        outputs.append(self.head(h))
    return torch.stack(outputs)


def _one_step(self: Any, x: Tensor, h_0: Tensor, c_0: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    h, c = self.cell(x, (h_0, c_0))
    return self.head(h), h, c


def _fed_back(self: Any, h_0: Tensor) -> Tensor:
    h, ids, logits = h_0, torch.zeros(h_0.size(0), dtype=torch.int64), []
    for _ in range(4):
        h = self.cell(self.embedding(ids), h)
        logits.append(self.head(h))
        ids = logits[-1].argmax(-1)
    return torch.stack(logits, 1)


def _loss_per_step(self: Any, x: Tensor, ids: Tensor) -> Tensor:
    h, loss = _zeros(x), x.new_zeros(x.size(0))
    for t in range(x.size(1)):
        h = self.cell(x[:, t], h)
        loss = loss - self.head(h).log_softmax(-1).gather(1, ids[:, t : t + 1] % 3).squeeze(1)
    return loss / x.size(1)


Part = Callable[[], nn.Module]
LOOPS: dict[str, tuple[Callable[..., Any], tuple[Input, ...], dict[str, Part]]] = {
    "split": (_split, (X,), {"cell": GRU}),
    "stacked-last": (_unbound_twice, (X,), {"cell": GRU, "head": HEAD}),
    "written": (_written, (X,), {"cell": GRU}),
    "written-time-major": (_written_time_major, (X_TIME_MAJOR,), {"cell": LSTM}),
    "written-backwards": (_written_backwards, (X,), {"cell": RNN, "head": HEAD}),
    "written-masked": (_written_masked, (X, LENGTHS), {"cell": GRU}),
    "summed": (_summed, (X,), {"cell": GRU}),
    "summed-masked": (_summed_masked, (X, LENGTHS), {"cell": GRU}),
    "largest": (_largest, (X,), {"cell": GRU, "head": HEAD}),
    "running-mean": (_running_mean, (X,), {"cell": RNN}),
    "last-kept": (_last_kept, (X, LENGTHS), {"cell": GRU, "head": HEAD}),
    "multiplied-mask": (_multiplied, (X, MASK), {"cell": GRU}),
    "difference-mask": (_difference, (X, MASK), {"cell": GRU}),
    "zeroed-state": (_zeroed, (X, LENGTHS), {"cell": GRU}),
    "masked-by-ids": (_masked_by_ids, (IDS,), {"embedding": TABLE, "cell": LSTM, "head": HEAD}),
    "masked-fill": (_filled, (X, MASK), {"cell": RNN}),
    "given-states": (_given, (X, H_0, C_0), {"cell": LSTM}),
    "all-but-last": (_all_but_last, (X,), {"cell": GRU, "head": HEAD}),
    "all-but-last-backwards": (_all_but_last_backwards, (X, LENGTHS), {"cell": GRU, "head": HEAD}),
    "grown": (_grown, (X,), {"cell": GRU}),
    "previous-input": (_previous, (X,), {"cell": GRU}),
    "previous-state": (_previous_state_read, (X,), {"cell": GRU, "head": HEAD}),
    "unbatched-cells": (_unbatched, (Input("x", ("seq", FEATURES)),), {"cell": GRU, "head": HEAD}),
    "one-step": (_one_step, (Input("x", ("batch", FEATURES)), H_0, C_0), {"cell": LSTM, "head": HEAD}),
    "fed-back-a-fixed-number-of-times": (_fed_back, (H_0,), {"embedding": TABLE, "cell": GRU, "head": HEAD}),
    "loss-per-step": (_loss_per_step, (X, IDS), {"cell": GRU, "head": HEAD}),
}
