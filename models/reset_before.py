"""The GRU that PyTorch lacks: the reset gate before the recurrent product, as in TF 1's GRUCell."""

from __future__ import annotations

from math import sqrt
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear


class ResetBeforeGRU(nn.Module):
    """One recurrent layer over padded sequences, forward or both ways.

    r = σ(W_hx_r x + W_hh_r h + b_h_r), z = σ(W_hx_z x + W_hh_z h + b_h_z),
    n = tanh(W_hx_n x + W_hh_n (r ⊙ h) + b_h_n), h' = (1 - z) ⊙ n + z ⊙ h. Each weight stacks r, z, n.
    https://arxiv.org/abs/1406.1078, equations 5 to 8: z is the share of h that is kept.
    """

    def __init__(self, input_dim: int, num_hidden_units: int, bidirectional: bool = False) -> None:
        super().__init__()
        self.num_hidden_units = num_hidden_units
        ways = (False, True) if bidirectional else (False,)
        self.directions = nn.ModuleList(_Direction(input_dim, num_hidden_units, reverse) for reverse in ways)

    def forward(self, x: Tensor, lengths: Tensor, h_0: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Run the layer.

        Args:
            x: [batch, seq, input_dim].
            lengths: [batch]; steps from a row's length on are padding.
            h_0: [num_directions, batch, num_hidden_units]; None for zeros.

        Returns:
            h of every step, [batch, seq, num_directions * num_hidden_units], zero at padded steps, and
            h_T [num_directions, batch, num_hidden_units].
        """
        if h_0 is None:
            h_0 = x.new_zeros(len(self.directions), x.size(0), self.num_hidden_units)
        valid = (torch.arange(x.size(1), device=x.device) < lengths[:, None])[:, :, None]  # [batch, seq, 1]
        x = x.where(valid, 0.0)  # or NaN in the padding would reach the gradients, whatever is masked later
        ways = [direction(x, valid, h) for direction, h in zip(self.directions, h_0, strict=True)]
        outputs, finals = zip(*ways, strict=True)
        return torch.cat(outputs, dim=-1), torch.stack(finals)

    def recurrent_description(self) -> dict[str, Any]:
        """What this layer computes, for an exporter that can write it as one native operator."""
        return {
            "cell": "gru",
            "reset_after": False,
            "hidden_size": self.num_hidden_units,
            "gate_order": "rzn",
            "activations": ["Sigmoid", "Tanh"],
            "batch_first": True,
            "directions": [dict(direction.named_parameters()) for direction in self.directions],
        }


class _Direction(nn.Module):
    def __init__(self, input_dim: int, num_hidden_units: int, reverse: bool) -> None:
        super().__init__()
        self.reverse = reverse
        bound = 1 / sqrt(num_hidden_units)  # as nn.GRU starts
        self.W_hx = nn.Parameter(torch.empty(3 * num_hidden_units, input_dim).uniform_(-bound, bound))
        self.W_hh = nn.Parameter(torch.empty(3 * num_hidden_units, num_hidden_units).uniform_(-bound, bound))
        self.b_h = nn.Parameter(torch.empty(3 * num_hidden_units).uniform_(-bound, bound))

    def forward(self, x: Tensor, valid: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        split = [2 * h.size(-1), h.size(-1)]
        x_rz, x_n = linear(x, self.W_hx, self.b_h).split(split, dim=-1)
        W_hh_rz, W_hh_n = self.W_hh.split(split)
        h_t = [h] * x.size(1)
        for t in reversed(range(x.size(1))) if self.reverse else range(x.size(1)):
            r, z = (x_rz[:, t] + linear(h, W_hh_rz)).sigmoid().chunk(2, dim=-1)
            n = (x_n[:, t] + linear(r * h, W_hh_n)).tanh()
            h = h_t[t] = torch.where(valid[:, t], (1 - z) * n + z * h, h)
        return torch.stack(h_t, dim=1).where(valid, 0.0), h
