"""LSTMs with proj_size, as native LSTMs without: the projection moves into the recurrence and behind the layer.

PyTorch's projected LSTM feeds r_t = W_hr h_t back and gives it out (https://arxiv.org/abs/1402.1128). No native
operator does, but W_hh r_{t-1} = (W_hh W_hr) h_{t-1}: with that product as its recurrent weights a plain LSTM runs
through the same h_t, and W_hr applied to its outputs and final state gives the same r_t. A given r_0 enters as the
h_0 = pinv(W_hr) r_0, for which W_hr h_0 = r_0 wherever W_hr has full rank.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from seqport.exporters.errors import RefusedError


class Projection(NamedTuple):
    """One direction of one layer.

    Attributes:
        W_hh: the recurrent weights on h, [4 * H, H].
        W_hr: [proj_size, H].
        inverse: a right inverse of W_hr, [H, proj_size].
    """

    W_hh: Tensor
    W_hr: Tensor
    inverse: Tensor


def projections(layer: nn.LSTM, name: str) -> list[Projection]:
    """The folded weights of every direction of every layer; computed in float64, before the trace.

    Raises:
        RefusedError: a projection has not full rank, so that a given initial state could not enter.
    """
    suffixes = [""] + (["_reverse"] if layer.bidirectional else [])
    found = []
    for index in range(layer.num_layers):
        for suffix in suffixes:
            W_hh, W_hr = (getattr(layer, f"weight_{kind}_l{index}{suffix}").detach() for kind in ("hh", "hr"))
            wide = W_hr.double()
            if int(torch.linalg.matrix_rank(wide)) < W_hr.shape[0]:
                raise RefusedError(
                    name, f"has a weight_hr_l{index}{suffix} of lower rank than its {W_hr.shape[0]} rows", "retrain it"
                )
            folded = (W_hh.double() @ wide).to(W_hh.dtype)
            found.append(Projection(folded, W_hr, torch.linalg.pinv(wide).to(W_hr.dtype)))
    return found


def projected(x: Tensor, projection: Sequence[Projection]) -> Tensor:
    """R [seq, batch, D * proj_size] of outputs h [seq, batch, D * H]."""
    parts = x.chunk(len(projection), dim=-1) if len(projection) > 1 else [x]
    return torch.cat([part @ p.W_hr.T for part, p in zip(parts, projection, strict=True)], dim=-1)


def projected_state(h: Tensor, projection: Sequence[Projection]) -> Tensor:
    """r_T [D, batch, proj_size] of h_T [D, batch, H]."""
    return torch.stack([h[i] @ p.W_hr.T for i, p in enumerate(projection)])


def unprojected_state(r: Tensor, projection: Sequence[Projection]) -> Tensor:
    """An h_0 [D, batch, H] that the projection takes to r_0 [D, batch, proj_size]."""
    return torch.stack([r[i] @ p.inverse.T for i, p in enumerate(projection)])
