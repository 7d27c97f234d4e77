"""Finds one's way in a graph, and puts nodes in and takes them out."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from onnx import (
    AttributeProto,
    GraphProto,
    ModelProto,
    NodeProto,
    TensorProto,
    external_data_helper,
    helper,
    numpy_helper,
)


class View:
    """Who makes each value of a model's main graph, and who reads it.

    Args:
        model: edited in place.
        folder: where its external data are.
    """

    def __init__(self, model: ModelProto, folder: Path) -> None:
        self.graph = model.graph
        self._folder = folder
        self.producers = {name: node for node in self.graph.node for name in node.output if name}
        self.readers: dict[str, list[NodeProto]] = defaultdict(list)
        for node in self.graph.node:
            for name in set(reads(node)):
                self.readers[name].append(node)
        self.given = {value.name for value in self.graph.output}
        self._initializers = {tensor.name: tensor for tensor in self.graph.initializer}
        overridable = {value.name for value in self.graph.input}
        self._constant = {name for name in self._initializers if name not in overridable}

    def constant(self, name: str) -> np.ndarray | None:
        """The value of an initializer or of a Constant node, or what is widened from one (`_widened`).

        None where it is computed otherwise, or a caller may override it.
        """
        if name in self._constant:
            return self._array(self._initializers[name])
        node = self.producers.get(name)
        if node is None:
            return None
        if node.op_type != "Constant":
            return self._widened(node)
        tensor = next((a.t for a in node.attribute if a.name == "value"), None)
        return None if tensor is None else self._array(tensor)

    def _widened(self, node: NodeProto) -> np.ndarray | None:
        """What ONNX Runtime makes of weights that are stored narrow when it opens a file: by Cast and Mul."""
        if node.domain not in ("", "ai.onnx") or node.op_type not in ("Cast", "Mul"):
            return None
        values = [self.constant(name) for name in node.input]
        if any(value is None for value in values):
            return None
        if node.op_type == "Mul":
            return values[0] * values[1]  # type: ignore[operator]
        to = helper.tensor_dtype_to_np_dtype(attribute(node, "to", TensorProto.FLOAT))
        return values[0].astype(to)  # type: ignore[union-attr]

    def shape(self, name: str) -> tuple[int, ...] | None:
        """The shape of what `constant` gives, without reading it; None where that would be."""
        if name in self._constant:
            return tuple(self._initializers[name].dims)
        node = self.producers.get(name)
        if node is None:
            return None
        if node.op_type in ("Cast", "Mul") and node.domain in ("", "ai.onnx"):
            shapes = [self.shape(given) for given in node.input]
            known = [shape for shape in shapes if shape is not None]
            return np.broadcast_shapes(*known) if len(known) == len(shapes) else None
        value = self.constant(name)
        return None if value is None else value.shape

    def _array(self, tensor: TensorProto) -> np.ndarray:
        if external_data_helper.uses_external_data(tensor):
            copy = TensorProto()
            copy.CopyFrom(tensor)
            external_data_helper.load_external_data_for_tensor(copy, str(self._folder))
            tensor = copy
        return numpy_helper.to_array(tensor)

    def depends(self, names: Sequence[str], nodes: Sequence[NodeProto]) -> bool:
        """Whether any of these values is computed from what one of these nodes gives."""
        makers = {id(node) for node in nodes}
        todo, seen = list(names), set(names)
        while todo:
            node = self.producers.get(todo.pop())
            if node is None:
                continue
            if id(node) in makers:
                return True
            before = [name for name in reads(node) if name not in seen]
            seen.update(before)
            todo += before
        return False

    def only_reader(self, name: str, op_type: str) -> NodeProto | None:
        """The one node of this kind that reads a value; None where there is none, or several."""
        found = [node for node in self.readers[name] if node.op_type == op_type]
        return found[0] if len(found) == 1 else None

    def read_beside(self, name: str, nodes: Sequence[NodeProto]) -> bool:
        """Whether a value is an output of the graph, or anyone else reads it."""
        known = {id(node) for node in nodes}
        return name in self.given or any(id(node) not in known for node in self.readers[name])


def reads(node: NodeProto) -> list[str]:
    """Every value that a node or a body inside it reads from around."""
    found = [name for name in node.input if name]
    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH:
            inside = {value.name for value in (*attribute.g.input, *attribute.g.initializer)}
            inside |= {name for inner in attribute.g.node for name in inner.output}
            needed = [name for inner in attribute.g.node for name in reads(inner)]
            needed += [value.name for value in attribute.g.output]
            found += [name for name in needed if name not in inside]
    return found


def attribute(node: NodeProto, name: str, default: Any) -> Any:
    """The value of an attribute; the default where the node does not have it."""
    return next((helper.get_attribute_value(a) for a in node.attribute if a.name == name), default)


def replace_nodes(graph: GraphProto, gone: Sequence[NodeProto], new: Sequence[NodeProto]) -> bool:
    """Take nodes out, put others in, drop what nothing reads, and sort all by who needs whom.

    Returns:
        False, with the graph as it was, where that order does not exist.
    """
    removed = {id(node) for node in gone}
    nodes = [node for node in graph.node if id(node) not in removed]
    ordered = _sorted([*nodes, *new], {value.name for value in graph.output})
    if ordered is None:
        return False
    copies = []
    for node in ordered:
        copy = NodeProto()
        copy.CopyFrom(node)
        copies.append(copy)
    del graph.node[:]
    graph.node.extend(copies)
    # An initializer that a caller may override stays with its input.
    used = {value.name for value in (*graph.input, *graph.output)} | {
        name for node in graph.node for name in reads(node)
    }
    for place in reversed(range(len(graph.initializer))):
        if graph.initializer[place].name not in used:
            del graph.initializer[place]
    return True


def _sorted(nodes: Sequence[NodeProto], outputs: set[str]) -> list[NodeProto] | None:
    """What the outputs need, each node behind those that it reads; None where there is a ring."""
    makers = {name: index for index, node in enumerate(nodes) for name in node.output if name}
    needs: dict[int, set[int]] = {}
    todo = [makers[name] for name in outputs if name in makers]
    while todo:
        index = todo.pop()
        if index not in needs:
            needs[index] = {makers[name] for name in reads(nodes[index]) if name in makers}
            todo.extend(needs[index])
    followers: dict[int, list[int]] = defaultdict(list)
    for index, before in needs.items():
        for other in before:
            followers[other].append(index)
    waiting = {index: len(before) for index, before in needs.items()}
    ready = [index for index, count in waiting.items() if not count]
    heapq.heapify(ready)
    ordered = []
    while ready:
        index = heapq.heappop(ready)
        ordered.append(nodes[index])
        for follower in followers[index]:
            waiting[follower] -= 1
            if not waiting[follower]:
                heapq.heappush(ready, follower)
    return ordered if len(ordered) == len(needs) else None
