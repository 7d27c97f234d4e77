"""nn.RNNCell, nn.GRUCell and nn.LSTMCell while a module is traced: one neutral cell a call."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from seqport.exporters.cell import OP_TYPE
from seqport.exporters.recurrent import DOMAIN, VERSION, RecurrentCall, num_states

# The same gates in the same order as the layers have: https://docs.pytorch.org/docs/stable/generated/torch.nn.LSTMCell.html
_CELLS = {nn.RNNCell: ("rnn", "h"), nn.GRUCell: ("gru", "rzn"), nn.LSTMCell: ("lstm", "ifgo")}


def cell_forward(self: nn.RNNCellBase, input: Tensor, hx: Any = None) -> Any:
    """`forward` of the three cells while tracing; same arguments, same results."""
    kind, gates = next(value for cell, value in _CELLS.items() if isinstance(self, cell))
    if hx is None:
        zeros = input.new_zeros(*input.shape[:-1], self.hidden_size)
        hx = (zeros, zeros)[: num_states(kind)]
    states = list(hx) if isinstance(hx, (tuple, list)) else [hx]
    call = RecurrentCall(
        layer=getattr(self, "_seqport_name", type(self).__name__),
        cell=kind,
        num_hidden_units=self.hidden_size,
        activations=("Relu",) if getattr(self, "nonlinearity", "") == "relu" else (),
        gate_order=gates,
    )
    outputs = torch.onnx.ops.symbolic_multi_out(
        f"{DOMAIN}::{OP_TYPE}",
        [input, *(*states, None)[:2], self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh],
        call.attributes(),
        dtypes=[input.dtype] * 2,
        shapes=[(*input.shape[:-1], self.hidden_size)] * 2,
        version=VERSION,
    )
    return tuple(outputs[:2]) if kind == "lstm" else outputs[0]
