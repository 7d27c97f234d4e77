"""The model as a PyTorch module, written as a user would write it: nn.RNN, GRU, LSTM over packed sequences."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from seqport.models.part import Part, TensorSpec
from seqport.models.reset_before import ResetBeforeGRU
from seqport.models.weights import Weights


def build(part: Part, weights: Weights | None = None) -> SequenceModule:
    """The module of one part, in training mode; without weights it has PyTorch's random ones."""
    module = SequenceModule(part)
    if weights is not None:
        module.load(weights)
    return module


class SequenceModule(nn.Module):
    """Embedding, recurrent layers, head: one `Part`, with zeros at its padded steps."""

    def __init__(self, part: Part) -> None:
        super().__init__()
        self.part = part
        self.embedding = nn.Embedding(part.vocab_size, part.input_dim) if part.vocab_size else nn.Identity()
        self.recurrent = _recurrent(part)
        h_features = part.num_directions * part.num_hidden_units
        self.head = nn.Linear(h_features, part.out_dim) if part.out_dim else None

    def forward(
        self, x: Tensor, lengths: Tensor, h_0: Tensor | None = None, c_0: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """Run the part.

        Args:
            x: [batch, seq, input_dim], or token ids [batch, seq].
            lengths: [batch], each 1 to seq.
            h_0: [num_layers * num_directions, batch, num_hidden_units]; None for zeros.
            c_0: the same, of an LSTM.

        Returns:
            What `part.outputs` names, in that order.
        """
        h, *finals = self._recur(self.embedding(x), lengths, h_0, c_0)
        if self.head is None:
            return tuple(finals)
        if self.part.every_step:
            output = self._g(self.head(h))  # [batch, seq, out_dim]
            padded = torch.arange(x.size(1), device=x.device) >= lengths[:, None]
            return output.masked_fill(padded[:, :, None], 0.0), *finals
        h_T = finals[0]
        last = torch.cat((h_T[-2], h_T[-1]), dim=-1) if self.part.bidirectional else h_T[-1]
        return self._g(self.head(last)), *finals  # [batch, out_dim]

    def load(self, weights: Weights) -> None:
        """Take over neutral weights."""
        state = weights.to_pytorch(self.part)
        self.load_state_dict({name: torch.tensor(array) for name, array in state.items()})

    def input_signature(self) -> list[TensorSpec]:
        """Name, axes and dtype of each argument of `forward`."""
        return list(self.part.inputs)

    def output_names(self) -> list[str]:
        """The name of each tensor that `forward` returns."""
        return list(self.part.outputs)

    def _recur(self, x: Tensor, lengths: Tensor, h_0: Tensor | None, c_0: Tensor | None) -> tuple[Tensor, ...]:
        """Give h [batch, seq, num_directions * num_hidden_units], h_T, and c_T of an LSTM."""
        if isinstance(self.recurrent, nn.ModuleList):
            return _stack(self.recurrent, x, lengths, h_0)
        packed = pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
        state = h_0 if h_0 is None or c_0 is None else (h_0, c_0)
        packed, state = self.recurrent(packed, state)
        h, _ = pad_packed_sequence(packed, batch_first=True, total_length=x.size(1))
        return (h, *state) if isinstance(state, tuple) else (h, state)

    def _g(self, logits: Tensor) -> Tensor:
        """The output function."""
        match self.part.output:
            case "softmax":
                return logits.softmax(dim=-1)
            case "sigmoid":
                return logits.sigmoid()
            case _:
                return logits


def _recurrent(part: Part) -> nn.RNNBase | nn.ModuleList:
    if part.cell == "gru" and part.reset_gate == "before":
        input_dims = [layer.input_dim for layer in part.layers() if layer.direction == "forward"]
        return nn.ModuleList(
            ResetBeforeGRU(input_dim, part.num_hidden_units, part.bidirectional) for input_dim in input_dims
        )
    options: dict[str, Any] = {
        "num_layers": part.num_layers,
        "bidirectional": part.bidirectional,
        "batch_first": True,
    }
    if part.cell == "rnn":
        return nn.RNN(part.input_dim, part.num_hidden_units, nonlinearity=part.activation, **options)
    layer = nn.GRU if part.cell == "gru" else nn.LSTM
    return layer(part.input_dim, part.num_hidden_units, **options)


def _stack(layers: nn.ModuleList, x: Tensor, lengths: Tensor, h_0: Tensor | None) -> tuple[Tensor, Tensor]:
    starts = [None] * len(layers) if h_0 is None else h_0.chunk(len(layers))
    finals = []
    for layer, start in zip(layers, starts, strict=True):
        x, h_T = layer(x, lengths, start)
        finals.append(h_T)
    return x, torch.cat(finals)
