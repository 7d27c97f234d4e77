"""What goes into each recurrent node and comes out of it, read while the artifact runs.

Needs: a lowered graph. Guarantees nothing but what it returns: the steps and rows, the lengths, the initial and the
final states of a node are those of a run, so that no walk over the graph has to guess them. Only what leads to the
wanted values is computed, at the small sizes of a probe.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort

from seqport.exporters.passes.roles import SEQUENCE_LENS, is_native
from seqport.exporters.serial import session_of

Arrays = Mapping[str, np.ndarray]
_INITIAL = 5  # position of initial_h among the inputs; initial_c follows it


class State(NamedTuple):
    """One state of one node: the names under which its first and its last value are read, and the values."""

    node: ir.Node
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
        self._model = model
        self._shown: list[onnx.NodeProto] = []
        for place, node in enumerate(self.nodes):
            self._show("Shape", node.inputs[0], _steps_and_rows(place))
            self._show("Identity", node.inputs[0], f"seen/{place}/x")
            if self.takes_lengths(node):
                self._show("Identity", node.inputs[SEQUENCE_LENS], _lengths(place))
            for number in range(2):
                self._show_state(place, node, number)
        self._session: ort.InferenceSession | None = None

    @staticmethod
    def takes_lengths(node: ir.Node) -> bool:
        """Whether a node has lengths of its rows."""
        return len(node.inputs) > SEQUENCE_LENS and node.inputs[SEQUENCE_LENS] is not None

    def sizes(self, arrays: Arrays) -> list[tuple[int, int]]:
        """The steps and the rows of each node's X, [seq, batch, input_dim], where the artifact runs on these inputs."""
        if not self.nodes:
            return []
        shapes = self.read(arrays, [_steps_and_rows(place) for place in range(len(self.nodes))])
        return [(int(shape[0]), int(shape[1])) for shape in shapes.values()]

    def steps(self, node: ir.Node, arrays: Arrays) -> int:
        """The steps of one node's X."""
        name = _steps_and_rows(self.nodes.index(node))
        return int(self.read(arrays, [name])[name][0])

    def lengths(self, node: ir.Node, arrays: Arrays) -> np.ndarray:
        """The lengths of one node's rows."""
        name = _lengths(self.nodes.index(node))
        return self.read(arrays, [name])[name]

    def data(self, arrays: Arrays) -> dict[str, np.ndarray]:
        """Each node's X, [seq, batch, input_dim], by a name."""
        return self.read(arrays, [f"seen/{place}/x" for place in range(len(self.nodes))])

    def read(self, arrays: Arrays, names: Sequence[str]) -> dict[str, np.ndarray]:
        """Values by the names under which they are shown.

        Raises:
            Exception: ONNX Runtime's own, where the artifact does not run on these inputs.
        """
        if self._session is None:
            self._session = session_of(self._model, self._shown)
        options = ort.RunOptions()
        options.log_severity_level = 4
        options.only_execute_path_to_fetches = True
        if not names:
            return {}
        values = self._session.run(list(names), dict(arrays), options)
        return {name: np.asarray(array) for name, array in zip(names, values, strict=True)}

    def _show(self, op: str, value: ir.Value | None, name: str) -> None:
        assert value is not None
        self._shown.append(onnx.helper.make_node(op, [value.name or ""], [name]))

    def _show_state(self, place: int, node: ir.Node, number: int) -> None:
        given = node.inputs[_INITIAL + number] if len(node.inputs) > _INITIAL + number else None
        last = node.outputs[1 + number] if len(node.outputs) > 1 + number else None
        if given is None or last is None or not last.name:
            return
        state = State(node, f"seen/{place}/initial_{number}", f"seen/{place}/final_{number}", given, last)
        self._show("Identity", given, state.initial)
        self._show("Identity", last, state.final)
        self.states.append(state)


def _steps_and_rows(place: int) -> str:
    return f"seen/{place}/shape"


def _lengths(place: int) -> str:
    return f"seen/{place}/lengths"
