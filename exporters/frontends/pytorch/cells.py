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
    unbatched = input.dim() == 1
    states: list[Any] = list(hx) if isinstance(hx, (tuple, list)) else [hx]
    if unbatched:
        input, states = input.unsqueeze(0), [None if s is None else s.unsqueeze(0) for s in states]
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
        shapes=[(input.shape[0], self.hidden_size)] * 2,
        version=VERSION,
    )
    results = [state.squeeze(0) if unbatched else state for state in outputs[: num_states(kind)]]
    return tuple(results) if kind == "lstm" else results[0]


def has_cells(model: nn.Module) -> bool:
    """Whether the module may run a cell in a loop of its own."""
    return any(isinstance(module, nn.RNNCellBase) for module in model.modules())
