"""Lower a model's neutral nodes outside of an export, where every other node keeps its name.

Needs: any model. Guarantees: no neutral node; no node without readers; no two nodes of one name, which ONNX Runtime
refuses.
"""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes import common

from seqport.exporters.passes.lowering import lower_model


def lower(model: ir.Model) -> None:
    """Lower in place."""
    lower_model(model)
    common.RemoveUnusedNodesPass()(model)
    taken: set[str] = set()
    for node in model.graph.all_nodes():
        name, count = node.name or "", 1
        while name in taken:
            count += 1
            name = f"{node.name}_{count}"
        node.name = name
        if name:
            taken.add(name)
