"""A cell that runs outside of a loop over time: one recurrent layer of one step.

Needs: a model. Guarantees: no neutral cell is left.
"""

from __future__ import annotations

import onnx_ir as ir

from seqport.exporters.cell import WEIGHTS, C, H, X, is_cell
from seqport.exporters.passes.builder import Builder, replace
from seqport.exporters.recurrent import DOMAIN, OP_TYPE, VERSION, RecurrentCall, num_states


def lower_single_steps(model: ir.Model) -> None:
    """Replace every cell by a recurrent node of one step."""
    for node in [node for node in model.graph if is_cell(node)]:
        call = RecurrentCall.from_node(node)
        build = Builder(node, call.layer)
        x = node.inputs[X]
        assert x is not None and x.shape is not None
        lead = build.op("Shape", x, start=0, end=-1)
        rows = [None if v is None else _row(build, v) for v in (x, node.inputs[H], node.inputs[C])]
        inputs = [rows[0], None, None, *rows[1:], *node.inputs[WEIGHTS:]]
        step = build.op(OP_TYPE, *inputs, num_outputs=3, **call.attributes()).producer()
        assert step is not None
        step.domain, step.name = DOMAIN, f"{call.layer}/step"
        for output, final in zip(node.outputs[: num_states(call.cell)], step.outputs[1:], strict=False):
            if x.shape.rank() == 2:
                value = build.op("Squeeze", final, build.const([0], name="axes"))
            else:
                shape = build.op("Concat", lead, build.const([call.num_hidden_units]), axis=0)
                value = build.op("Reshape", final, shape)
            value.shape, value.type = output.shape, output.type
            replace(model.graph, output, value, before=node)
        model.graph.remove(node, safe=False)
        model.opset_imports[DOMAIN] = VERSION


def _row(build: Builder, value: ir.Value) -> ir.Value:
    """[..., size] as [1, batch, size]."""
    if value.shape is not None and value.shape.rank() == 2:
        return build.op("Unsqueeze", value, build.const([0], name="axes"))
    size = build.op("Shape", value, start=-1)
    return build.op("Reshape", value, build.op("Concat", build.const([1, -1]), size, axis=0))
