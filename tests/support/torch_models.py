"""PyTorch modules as users write them; none of them is built by seqport."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from seqport.exporters import Input

VOCABULARY, FEATURES, HIDDEN = 11, 6, 5

IDS = Input("ids", ("batch", "seq"), "int64")
X = Input("x", ("batch", "seq", FEATURES))
X_TIME_MAJOR = Input("x", ("seq", "batch", FEATURES))
LENGTHS = Input("lengths", ("batch",), "int64")


class Wrapped(nn.Module):
    """A forward given as a function of the module's parts."""

    def __init__(self, run: Callable[..., Any], **parts: nn.Module) -> None:
        super().__init__()
        for name, part in parts.items():
            self.add_module(name, part)
        self.run = run

    def forward(self, *tensors: Tensor) -> Any:
        return self.run(self, *tensors)


class Tagger(nn.Module):
    """Embedding, packed layer, linear head at each step."""

    def __init__(
        self, layer: Callable[..., nn.RNNBase], total: bool = True, padding_value: float = 0.0, **options: Any
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, FEATURES)
        self.recurrent = layer(FEATURES, HIDDEN, batch_first=True, **options)
        width = options.get("proj_size", HIDDEN)
        self.head = nn.Linear(width * (2 if options.get("bidirectional") else 1), 3)
        self.total, self.padding_value = total, padding_value

    def forward(self, ids: Tensor, lengths: Tensor) -> Any:
        packed = pack_padded_sequence(self.embedding(ids), lengths.cpu(), batch_first=True, enforce_sorted=False)
        packed, state = self.recurrent(packed)
        y, _ = pad_packed_sequence(
            packed,
            batch_first=True,
            padding_value=self.padding_value,
            total_length=ids.size(1) if self.total else None,
        )
        return self.head(y), state


class Classifier(nn.Module):
    """The last state of the last layer, both directions joined."""

    def __init__(self, layer: Callable[..., nn.RNNBase], **options: Any) -> None:
        super().__init__()
        self.recurrent = layer(FEATURES, HIDDEN, **options)
        self.head = nn.Linear(HIDDEN * (2 if options.get("bidirectional") else 1), 4)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        _, state = self.recurrent(pack_padded_sequence(x, lengths, enforce_sorted=False))
        h = state[0] if isinstance(state, tuple) else state
        last = torch.cat([h[-2], h[-1]], dim=1) if self.recurrent.bidirectional else h[-1]
        return self.head(last).softmax(dim=-1)


class EncoderDecoder(nn.Module):
    """States go from a packed encoder to a decoder with lengths of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.LSTM(FEATURES, HIDDEN, num_layers=2, batch_first=True)
        self.decoder = nn.LSTM(FEATURES, HIDDEN, num_layers=2, batch_first=True)

    def forward(self, x: Tensor, lengths: Tensor, y: Tensor, y_lengths: Tensor) -> Tensor:
        _, state = self.encoder(pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False))
        packed, _ = self.decoder(pack_padded_sequence(y, y_lengths, batch_first=True, enforce_sorted=False), state)
        return pad_packed_sequence(packed, batch_first=True, total_length=y.size(1))[0]


class Subclass(nn.LSTM):
    """A layer that users made their own."""

    def forward(self, input: Any, hx: Any = None) -> Any:
        y, (h, _) = super().forward(input, hx)
        return y * 2, h


def zeros_written_out(self: Any, ids: Tensor, lengths: Tensor) -> Any:
    h_0 = torch.zeros(4, ids.size(0), HIDDEN)
    packed = pack_padded_sequence(self.embedding(ids), lengths, batch_first=True, enforce_sorted=False)
    y, state = self.recurrent(packed, (h_0, torch.zeros_like(h_0)))
    return pad_packed_sequence(y, batch_first=True)[0], state


def learned_state(self: Any, x: Tensor, lengths: Tensor) -> Any:
    h_0 = self.start.weight[:, None].expand(-1, x.size(0), -1).contiguous()
    packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    y, h_T = self.recurrent(packed, h_0)
    return pad_packed_sequence(y, batch_first=True, total_length=x.size(1))[0], h_T


def given_states(self: Any, x: Tensor, lengths: Tensor, h_0: Tensor, c_0: Tensor) -> Any:
    packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    y, (h_T, c_T) = self.recurrent(packed, (h_0, c_0))
    return {"y": pad_packed_sequence(y, batch_first=True)[0], "h_T": h_T, "c_T": c_T}


def sorted_rows(self: Any, x: Tensor, lengths: Tensor) -> Tensor:
    packed = pack_padded_sequence(x, lengths, batch_first=True)
    return pad_packed_sequence(self.recurrent(packed)[0], batch_first=True)[0]


def linear_on_data(self: Any, x: Tensor, lengths: Tensor) -> Any:
    packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    first, _ = self.first(packed)
    between = PackedSequence(
        torch.relu(self.linear(first.data)), first.batch_sizes, first.sorted_indices, first.unsorted_indices
    )
    second, h_T = self.second(between)
    return pad_packed_sequence(second, batch_first=True, total_length=x.size(1))[0], h_T


def replaced_data(self: Any, x: Tensor, lengths: Tensor) -> Tensor:
    packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    packed = packed._replace(data=self.norm(packed.data))
    return pad_packed_sequence(self.recurrent(packed)[0], batch_first=True)[0]


def flat_outputs(self: Any, x: Tensor, lengths: Tensor) -> Tensor:
    packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    return self.head(self.recurrent(packed)[0].data)


def sorted_by_hand(self: Any, x: Tensor, lengths: Tensor) -> Any:
    ordered, order = torch.sort(lengths, descending=True)
    packed = pack_padded_sequence(x[order], ordered, batch_first=True)
    y, h_T = self.recurrent(packed)
    back = torch.argsort(order)
    return pad_packed_sequence(y, batch_first=True)[0][back], h_T[:, back]


def last_valid(self: Any, x: Tensor, lengths: Tensor) -> Tensor:
    y, _ = self.recurrent(x)
    return self.head(y[torch.arange(x.size(0)), lengths - 1])


def masked_mean(self: Any, x: Tensor, lengths: Tensor) -> Tensor:
    packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    y, y_lengths = pad_packed_sequence(self.recurrent(packed)[0], batch_first=True)
    mask = torch.arange(y.size(1))[None, :] < y_lengths[:, None]
    return (y * mask[..., None]).sum(1) / y_lengths[:, None]


def attention(self: Any, x: Tensor, lengths: Tensor) -> Tensor:
    packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    y, _ = pad_packed_sequence(self.recurrent(packed)[0], batch_first=True, total_length=x.size(1))
    scores = self.score(torch.tanh(y)).squeeze(-1)
    scores = scores.masked_fill(torch.arange(x.size(1)) >= lengths[:, None], float("-inf"))
    return torch.bmm(scores.softmax(1)[:, None], y).squeeze(1)


def convolution_before(self: Any, x: Tensor, lengths: Tensor) -> Tensor:
    z = torch.relu(self.norm(self.conv(x.transpose(1, 2)))).transpose(1, 2)
    packed = pack_padded_sequence(z, lengths, batch_first=True, enforce_sorted=False)
    y, _ = pad_packed_sequence(self.recurrent(packed)[0], batch_first=True, total_length=x.size(1))
    return self.head(y).log_softmax(-1)


def twice(self: Any, x: Tensor, lengths: Tensor) -> Tensor:
    def run(z: Tensor) -> Tensor:
        packed = pack_padded_sequence(z, lengths, batch_first=True, enforce_sorted=False)
        return pad_packed_sequence(self.recurrent(packed)[0], batch_first=True, total_length=z.size(1))[0]

    return run(run(x))


def longer_total(self: Any, x: Tensor, lengths: Tensor) -> Tensor:
    packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    return pad_packed_sequence(self.recurrent(packed)[0], batch_first=True, padding_value=7.0, total_length=64)[0]


def plain(self: Any, x: Tensor) -> Any:
    return self.recurrent(x)


def unbatched(self: Any, x: Tensor) -> Any:
    return self.recurrent(x)


def packed_only(_: Any, x: Tensor, lengths: Tensor) -> Tensor:
    packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    return pad_packed_sequence(packed, batch_first=True, padding_value=-2.0)[0]


def lengths_as_list(self: Any, x: Tensor, lengths: Tensor) -> Tensor:
    packed = pack_padded_sequence(x, lengths.cpu().tolist(), batch_first=True, enforce_sorted=False)
    return pad_packed_sequence(self.recurrent(packed)[0], batch_first=True)[0]


def lengths_as_array(self: Any, x: Tensor, lengths: Tensor) -> Tensor:
    packed = pack_padded_sequence(x, lengths.cpu().numpy(), True, False)  # type: ignore[arg-type]
    return self.recurrent(packed)[1]


def total_from_lengths(self: Any, x: Tensor, lengths: Tensor) -> Tensor:
    packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    longest = int(lengths.max())
    y, _ = pad_packed_sequence(self.recurrent(packed)[0], batch_first=True, total_length=longest)
    return y


def lengths_of_ids(self: Any, ids: Tensor) -> Tensor:
    lengths = (ids != 0).sum(1).clamp(min=1)
    packed = pack_padded_sequence(self.embedding(ids), lengths.cpu(), batch_first=True, enforce_sorted=False)
    return self.recurrent(packed)[1]


def state_in_a_tuple(self: Any, x: Tensor, state: tuple[Tensor, Tensor]) -> Any:
    return self.recurrent(x, state)


def batch_in_a_dict(self: Any, batch: dict[str, Tensor]) -> dict[str, Any]:
    packed = pack_padded_sequence(batch["x"], batch["lengths"], batch_first=True, enforce_sorted=False)
    y, h_T = self.recurrent(packed)
    return {"y": pad_packed_sequence(y, batch_first=True)[0], "more": {"h_T": h_T}}


def reversed_valid_steps(self: Any, x: Tensor, lengths: Tensor) -> Tensor:
    steps = torch.arange(x.size(1))[None, :]
    order = torch.where(steps < lengths[:, None], lengths[:, None] - 1 - steps, steps)
    return self.recurrent(x.gather(1, order[..., None].expand_as(x)))[0]


def gru_loop(self: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    h = x.new_zeros(x.size(0), HIDDEN)
    outputs = []
    for t in range(x.size(1)):
        h = self.cell(x[:, t], h)
        outputs.append(h)
    return torch.stack(outputs, dim=1), h


def masked_lstm_loop(self: Any, ids: Tensor, lengths: Tensor) -> Any:
    x = self.embedding(ids)
    h = c = torch.zeros(x.size(0), HIDDEN)
    mask = torch.arange(x.size(1))[None, :] < lengths[:, None]
    outputs = []
    for t in range(x.shape[1]):
        new_h, new_c = self.cell(x[:, t, :], (h, c))
        valid = mask[:, t].unsqueeze(1)
        h, c = torch.where(valid, new_h, h), torch.where(valid, new_c, c)
        outputs.append(self.head(h) * valid)
    return torch.stack(outputs, dim=1), h, c


def masked_lstm_state(self: Any, x: Tensor, lengths: Tensor) -> Tensor:
    h = c = torch.zeros(x.size(0), HIDDEN)
    for t in range(x.size(1)):
        new_h, new_c = self.cell(x[:, t], (h, c))
        valid = (t < lengths)[:, None]
        h, c = torch.where(valid, new_h, h), torch.where(valid, new_c, c)
    return h


def a_number_of_its_own(self: Any, ids: Tensor) -> Tensor:
    x = self.embedding(torch.where(ids >= 5, 7, ids))  # 7 is also a size that loops are traced at
    h = x.new_zeros(x.size(0), HIDDEN)
    for t in range(x.size(1)):
        h = self.cell(x[:, t], h)
    return h


def none_among_the_outputs(self: Any, x: Tensor) -> Any:
    y, h_T = self.recurrent(x)
    return y, None, h_T


def blended_loop(self: Any, x: Tensor, lengths: Tensor) -> Tensor:
    h = torch.zeros(x.size(0), HIDDEN)
    for t, step in enumerate(x.unbind(1)):
        alive = (lengths > t).float()[:, None]
        h = alive * self.cell(step, h) + (1 - alive) * h
    return self.head(h)


def two_layers_time_major(self: Any, x: Tensor) -> Tensor:
    first = second = None
    outputs = []
    for step in x:
        first = self.first(step, first)
        second = self.second(torch.relu(self.linear(first)), second)
        outputs.append(second.unsqueeze(0))
    return torch.cat(outputs, dim=0)


def backward_loop(self: Any, x: Tensor) -> Tensor:
    h = torch.zeros(x.size(0), HIDDEN)
    outputs = []
    for t in reversed(range(x.size(1))):
        h = self.cell(x[:, t], h)
        outputs.insert(0, h)
    return torch.stack(outputs, 1)


class Batch(Wrapped):
    """A forward of one argument."""

    def forward(self, batch: dict[str, Tensor]) -> Any:  # type: ignore[override]
        return self.run(self, batch)


class WithState(Wrapped):
    """A forward of an input and a state."""

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor]) -> Any:  # type: ignore[override]
        return self.run(self, x, state)
