"""nn.RNN, nn.GRU and nn.LSTM while a module is traced: one neutral recurrent node a layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from seqport.exporters.errors import RefusedError
from seqport.exporters.frontends.pytorch.packed import CapturedPack, captured
from seqport.exporters.frontends.pytorch.projection import Projection, projected, projected_state, unprojected_state
from seqport.exporters.recurrent import DOMAIN, OP_TYPE, VERSION, WEIGHTS_PER_DIRECTION, RecurrentCall, num_states

# PyTorch's order of gates: https://docs.pytorch.org/docs/stable/generated/torch.nn.LSTM.html
# ("~LSTM.weight_ih_l[k]: (W_ii|W_if|W_ig|W_io)") and torch.nn.GRU ("(W_ir|W_iz|W_in)").
_GATE_ORDER = {"rnn": "h", "gru": "rzn", "lstm": "ifgo"}

Weights = Sequence[Tensor | None]


def recurrent(
    x: Tensor, lengths: Tensor | None, states: Sequence[Tensor | None], weights: Weights, call: RecurrentCall
) -> tuple[Tensor, list[Tensor]]:
    """Emit one neutral recurrent node into the trace.

    Args:
        x: [seq, batch, input_dim].
        lengths: int64 [batch], or None where every step is valid.
        states: h_0, and c_0 for an LSTM, each [D, batch, num_hidden_units] or None.
        weights: W_hx, W_hh, b_hx, b_hh for each direction.
        call: everything else.

    Returns:
        y [seq, batch, D * num_hidden_units], and the final states [D, batch, num_hidden_units].
    """
    seq, batch = x.shape[0], x.shape[1]
    state_shape = (call.num_directions, batch, call.num_hidden_units)
    h_0, c_0 = (*states, None)[:2]
    # ONNX Runtime's recurrent kernels compute in float32; a layer of another type is converted around them.
    inputs = [
        t if t is None or not t.is_floating_point() else t.float() for t in (x, lengths, None, h_0, c_0, *weights)
    ]
    y, *finals = torch.onnx.ops.symbolic_multi_out(
        f"{DOMAIN}::{OP_TYPE}",
        inputs,
        call.attributes(),
        dtypes=[torch.float32] * 3,
        shapes=[(seq, batch, call.num_directions * call.num_hidden_units), state_shape, state_shape],
        version=VERSION,
    )
    return y.to(x.dtype), [state.to(x.dtype) for state in finals[: num_states(call.cell)]]


def forward(self: nn.RNNBase, input: Any, hx: Any = None) -> tuple[Any, Any]:
    """`forward` of nn.RNN, nn.GRU and nn.LSTM while tracing; same arguments, same results."""
    name = getattr(self, "_seqport_name", type(self).__name__)
    packed = captured(input, name) if isinstance(input, PackedSequence) else None
    tensor: Any = input if packed is None else packed.padded
    unbatched = packed is None and tensor.dim() == 2
    x = _time_major(self, name, tensor, packed=packed is not None)
    lengths = None if packed is None else packed.origin.lengths
    y, finals = _stack(self, name, x, lengths, _initial(self, hx, unbatched))

    if unbatched:
        y, finals = y.squeeze(1), [state.squeeze(1) for state in finals]
    elif packed is None and self.batch_first:
        y = y.transpose(0, 1)
    hidden = finals[0] if len(finals) == 1 else tuple(finals)
    if packed is not None:
        return CapturedPack.of(y, packed.origin, zero_padded=True), hidden
    return y, hidden


def _time_major(self: nn.RNNBase, name: str, x: Tensor, *, packed: bool) -> Tensor:
    """The input as [seq, batch, input_dim]."""
    if x.dim() not in (2, 3) or x.shape[-1] != self.input_size:
        raise RefusedError(
            name,
            f"gets input of shape {tuple(x.shape)}",
            f"its last axis must be input_size={self.input_size}, with 2 or 3 axes in all",
        )
    if x.dim() == 2:
        return x.unsqueeze(1)
    return x.transpose(0, 1) if self.batch_first and not packed else x


def _initial(self: nn.RNNBase, hx: Any, unbatched: bool) -> list[Tensor | None]:
    """h_0 (and c_0), each [num_layers * D, batch, num_hidden_units] or None."""
    if hx is None:
        return [None] * num_states(_cell(self))
    states = list(hx) if isinstance(hx, (tuple, list)) else [hx]
    return [state.unsqueeze(1) if unbatched else state for state in states]


def _stack(
    self: nn.RNNBase, name: str, x: Tensor, lengths: Tensor | None, initial: list[Tensor | None]
) -> tuple[Tensor, list[Tensor]]:
    """All layers of the module, in one direction or both."""
    directions = 2 if self.bidirectional else 1
    projections: list[Projection] = getattr(self, "_seqport_projections", [])
    finals: list[list[Tensor]] = []
    for layer in range(self.num_layers):
        rows = slice(layer * directions, (layer + 1) * directions)
        states = [s if s is None or self.num_layers == 1 else s[rows] for s in initial]
        call = RecurrentCall(
            layer=name if self.num_layers == 1 else f"{name}.{layer}",
            cell=_cell(self),
            num_hidden_units=self.hidden_size,
            direction="bidirectional" if self.bidirectional else "forward",
            activations=_activations(self),
            gate_order=_GATE_ORDER[_cell(self)],
        )
        weights = _weights(self, layer)
        projection = projections[rows]
        if projection:
            weights[1::WEIGHTS_PER_DIRECTION] = [p.W_hh for p in projection]
            states[0] = None if states[0] is None else unprojected_state(states[0], projection)
        x, last = recurrent(x, lengths, states, weights, call)
        if projection:
            x, last[0] = projected(x, projection), projected_state(last[0], projection)
        finals.append(last)
    if self.num_layers == 1:
        return x, finals[0]
    return x, [torch.cat(states) for states in zip(*finals, strict=True)]


def _cell(self: nn.RNNBase) -> str:
    return self.mode.split("_", maxsplit=1)[0].lower()  # RNN_TANH, RNN_RELU, GRU, LSTM


def _activations(self: nn.RNNBase) -> tuple[str, ...]:
    return ("Relu",) if self.mode == "RNN_RELU" else ()


def _weights(self: nn.RNNBase, layer: int) -> list[Tensor | None]:
    suffixes = [f"l{layer}"] + ([f"l{layer}_reverse"] if self.bidirectional else [])
    return [
        getattr(self, f"{kind}_{suffix}") if self.bias or kind.startswith("weight") else None
        for suffix in suffixes
        for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    ]
