"""Branches as tf2onnx writes them, made valid, and those that are decided before the model runs taken.

Needs: a model of tf2onnx. Guarantees: no subgraph gives out a value of the graph around it as it is, which ONNX
forbids; no If whose condition is a constant, such as a placeholder `is_training` with its default, and no
dropout that such a default switches off.
"""

from __future__ import annotations

import onnx
import onnx_ir as ir
from onnx_ir.passes import common

from seqport.exporters.lift.walk import Facts
from seqport.exporters.passes.builder import replace


def with_own_outputs(graph: onnx.GraphProto) -> None:
    """Give every subgraph outputs that its own nodes compute, by Identities."""
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type != onnx.AttributeProto.GRAPH:
                continue
            inner = attribute.g
            with_own_outputs(inner)
            made = {name for item in inner.node for name in item.output}
            for number, output in enumerate(inner.output):
                if output.name not in made:
                    source, output.name = output.name, f"{node.name}/{attribute.name}/{number}"
                    inner.node.append(onnx.helper.make_node("Identity", [source], [output.name]))


def take_branches(model: ir.Model) -> None:
    """Replace every If of the main graph whose condition is known by the branch that it takes."""
    again = True
    while again:
        again, facts = False, Facts(model)
        for node in [item for item in model.graph if item.op_type == "If" and item.domain == ""]:
            condition = facts.of(node.inputs[0])
            if condition is not None and condition.size == 1:
                _inline(model.graph, node, taken=bool(condition.reshape(-1)[0]))
                again = True
    facts = Facts(model)
    for node in [item for item in model.graph if item.op_type == "Where" and item.domain == ""]:
        test, taken, other = facts.of(node.inputs[0]), node.inputs[1], facts.of(node.inputs[2])
        if taken is None or test is None or other is None or not test.all():
            continue
        if _within(test.shape, facts.shape(taken)) and _within(other.shape, facts.shape(taken)):
            replace(model.graph, node.outputs[0], taken, before=node)
    common.RemoveUnusedNodesPass()(model)


def _within(shape: tuple[int, ...], of: tuple[int | str | None, ...] | None) -> bool:
    """Whether a tensor of the second shape surely keeps it when it meets one of the first."""
    if of is None or len(shape) > len(of):
        return not shape
    return all(size in (1, have) for size, have in zip(reversed(shape), reversed(of), strict=False))


def _inline(graph: ir.Graph, node: ir.Node, *, taken: bool) -> None:
    branch = node.attributes["then_branch" if taken else "else_branch"].as_graph()
    scope = node.name or node.outputs[0].name
    for name in list(branch.initializers):
        value = branch.initializers.pop(name)
        value.name = f"{scope}/{name}"
        graph.register_initializer(value)
    outputs = list(branch.outputs)
    branch.outputs.clear()
    for inner in list(branch):
        branch.remove(inner)
        for output in inner.outputs:
            output.name = f"{scope}/{output.name}"
        graph.insert_before(node, inner)
    for output, value in zip(node.outputs, outputs, strict=True):
        replace(graph, output, value, before=node)
    graph.remove(node, safe=True)
