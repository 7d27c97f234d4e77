"""The neutral cell: one step of a recurrent cell, as a loop over time that the user wrote leaves it in the graph.

inputs   x [batch, input_dim], h, c [batch, num_hidden_units] (optional), W_hx, W_hh, b_hx, b_hh
outputs  h, c; c repeats h where a cell has none

`passes/roll.py` rolls a chain of such nodes back into one neutral recurrent node.
"""

from __future__ import annotations

import onnx_ir as ir

from seqport.exporters.recurrent import DOMAIN

OP_TYPE = "Cell"
# Positions of the inputs.
X, H, C, WEIGHTS = range(4)


def is_cell(node: ir.Node) -> bool:
    """Whether the node is one step of a cell."""
    return node.domain == DOMAIN and node.op_type == OP_TYPE
