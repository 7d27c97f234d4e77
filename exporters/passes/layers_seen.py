"""What goes into each recurrent node and comes out of it, read while the artifact runs.

Needs: a lowered graph. Guarantees nothing but what it returns: the steps and rows, the lengths, the initial and the
final states of a node are those of a run, so that no walk over the graph has to guess them. Only what leads to the
wanted values is computed. Where sizes and lengths are wanted, zeros stand in for what recurrent nodes give, so that a
large model costs no more than a small one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
from onnx import helper, numpy_helper

from seqport.exporters.passes.roles import SEQUENCE_LENS, is_native
from seqport.exporters.serial import session_of

Arrays = Mapping[str, np.ndarray]
_INITIAL = 5  # position of initial_h among the inputs; initial_c follows it


class State(NamedTuple):
    """One state of one node: the names under which its first and its last value are read, and the values."""

    initial: str
    final: str
    given: ir.Value  # what the node starts from
    last: ir.Value  # what it ends with


class Layers:
    """The recurrent nodes of a model's graph; those within a branch or a loop cannot be read.

    Attributes:
        nodes: they, in the graph's order.
        states: those of their states that start from something given.
    """

    def __init__(self, model: ir.Model) -> None:
        self.nodes = [node for node in model.graph if is_native(node)]
        self.states: list[State] = []
        self._values, self._sizes = _Shown(model, stand_ins=False), _Shown(model, stand_ins=True)
        for place, node in enumerate(self.nodes):
            self._values.show("Identity", node.inputs[0], f"{place}/x")
            self._sizes.show("Shape", node.inputs[0], f"{place}/shape")
            if self.takes_lengths(node):
                self._sizes.show("Identity", node.inputs[SEQUENCE_LENS], f"{place}/lengths")
            for number in range(2):
                self._show_state(place, node, number)

    @staticmethod
    def takes_lengths(node: ir.Node) -> bool:
        """Whether a node has lengths of its rows."""
        return len(node.inputs) > SEQUENCE_LENS and node.inputs[SEQUENCE_LENS] is not None

    def sizes(self, arrays: Arrays) -> dict[ir.Node, tuple[int, int]]:
        """The steps and the rows of each node's X, [seq, batch, input_dim], where the artifact runs on these inputs."""
        shapes = self._sizes.read(arrays, [f"{place}/shape" for place in range(len(self.nodes))])
        return {node: (int(shape[0]), int(shape[1])) for node, shape in zip(self.nodes, shapes, strict=True)}

    def lengths(self, arrays: Arrays) -> dict[ir.Node, np.ndarray]:
        """The lengths of each node's rows; nothing for a node that takes none."""
        nodes = [(node, f"{place}/lengths") for place, node in enumerate(self.nodes) if self.takes_lengths(node)]
        return dict(zip((n for n, _ in nodes), self._sizes.read(arrays, [name for _, name in nodes]), strict=True))

    def data(self, arrays: Arrays) -> dict[str, np.ndarray]:
        """Each node's X, [seq, batch, input_dim], under a name that no output has."""
        names = [f"{place}/x" for place in range(len(self.nodes))]
        return {f"X of node {name}": x for name, x in zip(names, self._values.read(arrays, names), strict=True)}

    def read(self, arrays: Arrays, names: Sequence[str]) -> dict[str, np.ndarray]:
        """Values of states, by their names.

        Raises:
            Exception: ONNX Runtime's own, where the artifact does not run on these inputs.
        """
        return dict(zip(names, self._values.read(arrays, names), strict=True))

    def _show_state(self, place: int, node: ir.Node, number: int) -> None:
        given = node.inputs[_INITIAL + number] if len(node.inputs) > _INITIAL + number else None
        last = node.outputs[1 + number] if len(node.outputs) > 1 + number else None
        if given is None or last is None or not last.name:
            return
        state = State(f"{place}/initial_{number}", f"{place}/final_{number}", given, last)
        self._values.show("Identity", given, state.initial)
        self._values.show("Identity", last, state.final)
        self.states.append(state)


class _Shown:
    """Inner values of a model, which a session of its own computes.

    Args:
        model: it.
        stand_ins: whether zeros stand in for what recurrent nodes give.
    """

    def __init__(self, model: ir.Model, *, stand_ins: bool) -> None:
        self._model, self._stand_ins = model, stand_ins
        self._nodes: list[onnx.NodeProto] = []
        self._session: ort.InferenceSession | None = None

    def show(self, op: str, value: ir.Value | None, name: str) -> None:
        """Let an operator's result of a value be read by a name."""
        assert value is not None
        self._nodes.append(helper.make_node(op, [value.name or ""], [f"seen/{name}"]))

    def read(self, arrays: Arrays, names: Sequence[str]) -> list[np.ndarray]:
        """The values of some names.

        Raises:
            Exception: ONNX Runtime's own.
        """
        if not names:
            return []
        if self._session is None:
            self._session = session_of(self._model, self._shown)
        options = ort.RunOptions()
        options.log_severity_level = 4
        options.only_execute_path_to_fetches = True
        return [np.asarray(a) for a in self._session.run([f"seen/{name}" for name in names], dict(arrays), options)]

    def _shown(self, graph: onnx.GraphProto) -> None:
        """Add the nodes to a graph, and their outputs to its outputs."""
        nodes = list(graph.node)
        del graph.node[:]
        for node in nodes:
            stands_in = self._stand_ins and is_native(node)
            graph.node.extend(_zeros_of(node, graph) if stands_in else [node])
        graph.node.extend(self._nodes)
        graph.output.extend(onnx.ValueInfoProto(name=name) for node in self._nodes for name in node.output)


def _zeros_of(node: onnx.NodeProto, graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """Zeros of the shapes of a recurrent node's outputs: [seq, D, batch, H], and twice [D, batch, H]."""
    given = {attribute.name: attribute for attribute in node.attribute}
    directions = 2 if "direction" in given and given["direction"].s == b"bidirectional" else 1
    prefix, x = f"zeros of {node.output[0] or node.name}", node.input[0]
    for name, size in (("D", directions), ("H", given["hidden_size"].i)):
        graph.initializer.append(numpy_helper.from_array(np.array([size]), f"{prefix}.{name}"))
    seq, batch = f"{prefix}.seq", f"{prefix}.batch"
    found = [
        helper.make_node("Shape", [x], [seq], start=0, end=1),
        helper.make_node("Shape", [x], [batch], start=1, end=2),
    ]
    for place, output in enumerate(node.output):
        if output:
            shape = [*([seq] if place == 0 else []), f"{prefix}.D", batch, f"{prefix}.H"]
            found += [
                helper.make_node("Concat", shape, [f"{output}.shape"], axis=0),
                helper.make_node("ConstantOfShape", [f"{output}.shape"], [f"{output}.zeros"]),
                helper.make_node("CastLike", [f"{output}.zeros", x], [output]),
            ]
    return found
