"""The passes from a captured graph to an artifact, in their order.

Each pass is a function of one job and states in its module what it needs and what it guarantees. `probe`, `declare`
and `stamp` follow the list because they pass measured axes on; see `seqport.exporters.export`.
"""

from seqport.exporters.passes.describe import declare_inputs
from seqport.exporters.passes.exact_forms import write_exactly
from seqport.exporters.passes.lowering import lower_recurrent
from seqport.exporters.passes.opset import set_opset
from seqport.exporters.passes.products import join_products
from seqport.exporters.passes.roll import roll_loops
from seqport.exporters.passes.tidy import tidy

PASSES = (roll_loops, lower_recurrent, join_products, write_exactly, set_opset, tidy, declare_inputs)

__all__ = ["PASSES"]
