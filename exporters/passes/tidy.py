"""A graph that is the same for the same model, and free of what nobody reads.

Needs: any graph. Guarantees: no dead node, no node twice, no unused initializer; nodes, names and initializers in an
order that depends on the graph alone (tracers number their names by a counter of the whole process).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

import onnx_ir as ir
from onnx_ir.passes import common

from seqport.exporters.passes.job import Job

# A tracer's counters at the end of a name: "Shape__338:0", "embedding_lookup/3192".
_COUNTER = re.compile(r"(/\d+)?(__\d+)?(:\d+)?$")


def tidy(job: Job) -> None:
    """Drop what is dead or double, then order and name what is left."""
    model = job.model
    names = [value.name for value in model.graph.outputs]
    _make_contiguous(model.graph)
    # In a branch an Identity may be what makes a value of the graph around it the branch's own.
    branches = any(node.op_type == "If" for node in model.graph.all_nodes())
    for step in (
        common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        *(() if branches else (common.IdentityEliminationPass(),)),
        common.RemoveUnusedNodesPass(),
        _InOrder(),  # of equal nodes and initializers the first is kept, with its name
        common.DeduplicateHashedInitializersPass(),
        common.CommonSubexpressionEliminationPass(),
        common.RemoveUnusedNodesPass(),
        common.RemoveUnusedFunctionsPass(),
        common.RemoveUnusedOpsetsPass(),
        common.ClearMetadataAndDocStringPass(),  # stack traces name the exporting machine
    ):
        model = step(model).model
    job.model = model
    _keep_outputs(model.graph, names)
    _put_in_order(model.graph)
    _rename(model.graph)


def _make_contiguous(graph: ir.Graph) -> None:
    """Plain arrays in C order: a tracer keeps transposed views, which cannot be hashed or compared as bytes."""
    for value in graph.initializers.values():
        tensor = value.const_value
        if tensor is not None and not isinstance(tensor, ir.ExternalTensor):
            array = tensor.numpy()
            if not array.flags.c_contiguous:
                value.const_value = ir.tensor(array.copy(order="C"), name=value.name)


def _keep_outputs(graph: ir.Graph, names: list[str | None]) -> None:
    """Every output is a value of its own under its own name, though two of them may have been found equal."""
    for index, name in enumerate(names):
        value = graph.outputs[index]
        if value.name == name and value.producer() is not None and value not in list(graph.outputs)[:index]:
            continue
        own = ir.node("Identity", [value])
        graph.append(own)
        own.outputs[0].shape, own.outputs[0].type = value.shape, value.type
        if value.name == name and not value.is_graph_input():
            value.name = f"{name}.value"
        own.outputs[0].name = name
        graph.outputs[index] = own.outputs[0]


class _InOrder(ir.passes.InPlacePass):
    """The nodes in the order of the graph's edges, and the initializers in that of their readers."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Reorder."""
        _put_in_order(model.graph)
        return ir.passes.PassResult(model, modified=True)


def _put_in_order(graph: ir.Graph) -> None:
    order = _canonical_order(graph)
    graph.remove(order)
    graph.extend(order)
    known = dict(graph.initializers)
    graph.initializers.clear()
    for value in dict.fromkeys(v for node in graph for v in _reads(node) if v is not None and v.name in known):
        if known[value.name or ""] is value:
            graph.initializers[value.name or ""] = value


def _canonical_order(graph: ir.Graph) -> list[ir.Node]:
    """The nodes by depth-first search from the outputs: an order that the graph alone decides."""
    order: list[ir.Node] = []
    done: set[ir.Node] = set()
    for output in graph.outputs:
        stack = [(output.producer(), False)]
        while stack:
            node, ready = stack.pop()
            if node is None or node in done or node.graph is not graph:
                continue
            if ready:
                done.add(node)
                order.append(node)
                continue
            stack.append((node, True))
            stack.extend((value.producer(), False) for value in reversed(list(_reads(node))) if value is not None)
    return order


def _reads(node: ir.Node) -> Iterator[ir.Value | None]:
    """What a node reads, in its subgraphs too."""
    yield from node.inputs
    for attribute in node.attributes.values():
        graphs = [attribute.value] if attribute.type == ir.AttributeType.GRAPH else []
        if attribute.type == ir.AttributeType.GRAPHS:
            graphs = list(attribute.value)
        for graph in graphs:
            for inner in graph:
                yield from _reads(inner)


def _rename(graph: ir.Graph) -> None:
    """Names without counters, each made unique by the graph's own order."""
    interface = {value.name for value in [*graph.inputs, *graph.outputs]}
    node_names, value_names = _Names(), _Names(interface)
    initializers = set(graph.initializers)
    for node in graph:
        node.name = node_names.free(_clean(node.name or node.op_type))
        for index, value in enumerate(node.outputs):
            if not value.is_graph_output():
                value.name = value_names.free(node.name if index == 0 else f"{node.name}:{index}")
                value.shape = None  # ONNX Runtime infers shapes itself; a tracer's symbols would only confuse
    used = dict.fromkeys(v for node in graph for v in _reads(node) if v is not None and v.name in initializers)
    graph.initializers.clear()
    for value in used:
        value.name = value_names.free("const" if _is_plumbing(value) else _clean(value.name or "const"))
        if value.const_value is not None:
            value.const_value.name = value.name
        graph.initializers[value.name] = value


def _is_plumbing(value: ir.Value) -> bool:
    """Scalars and shapes: which of their equal copies a tracer kept is chance, so they lose their names."""
    tensor = value.const_value
    return tensor is not None and (tensor.size == 1 or (tensor.dtype.is_integer() and len(tensor.shape) == 1))


def _clean(name: str) -> str:
    return _COUNTER.sub("", name.removeprefix("node_")) or name


class _Names:
    """Hands out names, each once."""

    def __init__(self, taken: Iterable[str | None] = ()) -> None:
        self._taken = set(taken)

    def free(self, wanted: str) -> str:
        name, count = wanted, 1
        while name in self._taken:
            count += 1
            name = f"{wanted}_{count}"
        self._taken.add(name)
        return name
