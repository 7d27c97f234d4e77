"""Opens the states of a graph's recurrent layers to its caller.

Needs: recurrent nodes that run forward, each starting from nothing, from what it learned, from an input, or from a
state that the model itself takes.
Does: each state becomes an optional input and an output, but for those that start from the model's own states, whatever
the model does to them first: these come in by its own inputs. A row whose mask keeps no step keeps its state.
Guarantees: without the new inputs, every output is as before. The batch size stays dynamic.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from seqport.runtime.artifact import Description, RecurrentInfo
from seqport.runtime.errors import CannotStreamError
from seqport.runtime.rewriting.reading import (
    SEQUENCE_LENS,
    Reading,
    X,
    attribute,
    is_recurrent,
    nodes_within,
    subgraphs,
)
from seqport.runtime.stream_state import FRESH_INPUT, StateTensor

STREAM = "stream/"  # what the names of nodes and values begin with that are added; none of the model's own does
_FIRST_STATE = 5  # position of initial_h among the inputs; initial_c follows it


@dataclass(frozen=True)
class Exposed:
    """A model with its states open.

    Attributes:
        model: the rewritten model.
        states: what came to its inputs and outputs, in the graph's order.
        fresh: it also takes the input `FRESH_INPUT`, because a layer starts from something other than zero.
        first_only: the inputs that reach nothing but where layers start: after a stream's first step nobody reads them.
        into_states: the inputs that change the model's own states before a layer starts from them, at every chunk.
    """

    model: onnx.ModelProto
    states: tuple[StateTensor, ...]
    fresh: bool
    first_only: tuple[str, ...] = ()
    into_states: tuple[str, ...] = ()


def expose_states(
    model: onnx.ModelProto,
    description: Description,
    sequence_inputs: Iterable[str],
    elsewhere: Callable[[onnx.NodeProto], bool] = lambda _: False,
) -> Exposed:
    """Open the states of a model, which is changed in place.

    Args:
        model: the artifact, its external weights need not be loaded.
        description: what it says of itself.
        sequence_inputs: the inputs that come chunk by chunk.
        elsewhere: whether a layer runs along another axis than the chunks' (the characters of each word): it begins
            anew in every run, and may run in any direction.

    Raises:
        CannotStreamError: a layer needs what comes later; it names the layer and the reason.
    """
    return _Rewriting(model, description, set(sequence_inputs)).done(elsewhere)


class _Rewriting:
    def __init__(self, model: onnx.ModelProto, description: Description, sequence_inputs: set[str]) -> None:
        self.model, self.graph = model, model.graph
        self.reading = Reading(model)
        self.layers: dict[str, RecurrentInfo] = {info.node: info for info in description.recurrent}
        self.carried_inputs = {state.input for state in description.states}
        self.sequence_inputs = sequence_inputs
        self.before: dict[int, list[onnx.NodeProto]] = {}  # a node's place → what is put before it
        self.after: dict[int, list[onnx.NodeProto]] = {}
        self.states: list[StateTensor] = []
        self.fresh = False
        self.into_states: set[str] = set()
        self.starts: dict[str, str] = {}  # where a layer starts → what it starts from at a stream's first step

    def done(self, elsewhere: Callable[[onnx.NodeProto], bool]) -> Exposed:
        for node in self.graph.node:
            for graph in subgraphs(node):
                if inner := next(filter(is_recurrent, nodes_within(graph)), None):
                    raise CannotStreamError(
                        f"{self.layer(inner)} cannot stream: it runs inside a {node.op_type}, which keeps its state; "
                        "export the model without that branch or loop"
                    )
        for place, node in enumerate(list(self.graph.node)):
            if is_recurrent(node) and not elsewhere(node):
                self._open(place, node)
        if self.fresh:
            self._optional_input(FRESH_INPUT, np.ones((1, 1, 1), bool), (1, "stream.batch", 1))
        nodes = list(self.graph.node)
        del self.graph.node[:]
        for place, node in enumerate(nodes):
            self.graph.node.extend((*self.before.get(place, ()), node, *self.after.get(place, ())))
        return Exposed(self.model, tuple(self.states), self.fresh, self._first_only(), tuple(sorted(self.into_states)))

    def layer(self, node: onnx.NodeProto) -> str:
        """What the user calls the layer of a recurrent node."""
        info = self.layers.get(node.name)
        return f"layer {info.layer!r} ({info.op})" if info else f"the {node.op_type} node {node.name!r}"

    def _open(self, place: int, node: onnx.NodeProto) -> None:
        self._require_forward(node)
        letters = ("h", "c") if node.op_type in ("LSTM", "DynamicQuantizeLSTM") else ("h",)
        initial = [*node.input[_FIRST_STATE : _FIRST_STATE + len(letters)], "", ""][: len(letters)]
        self._require_own_start(node, initial)
        opened = [position for position, name in enumerate(initial) if not self._from_own_state(name)]
        if not opened:
            return  # the model's own inputs and outputs carry all of it
        info = self.layers.get(node.name)
        title = self._title(info.layer if info else node.name or node.op_type)
        units = attribute(node, "hidden_size")
        assert isinstance(units, int)
        shape, batch = f"{STREAM}{title}.shape", f"{STREAM}{title}.batch"
        self._before(place, "Shape", [node.input[X]], batch, start=1, end=2)
        one, size = self._constant(f"{STREAM}{title}.one", [1]), self._constant(f"{STREAM}{title}.units", [units])
        self._before(place, "Concat", [one, batch, size], shape, axis=0)
        while len(node.input) < _FIRST_STATE + len(letters):
            node.input.append("")
        while len(node.output) < 1 + len(letters):
            node.output.append("")
        for position in opened:
            self._open_state(place, node, position, f"{title}.{letters[position]}", shape, units)

    def _open_state(self, place: int, node: onnx.NodeProto, position: int, name: str, shape: str, units: int) -> None:
        prefix = f"{STREAM}{name}"
        given, final = f"{prefix}_0", node.output[1 + position]
        own = node.input[_FIRST_STATE + position]
        self._optional_input(given, np.zeros((1, 1, units), np.float32), (1, "stream.batch", units))
        start = f"{prefix}_start"
        self._before(place, "Expand", [given, shape], f"{start}_given" if own else start)
        if own:
            self.fresh = True
            self._before(place, "Where", [FRESH_INPUT, own, f"{start}_given"], start)
            self.starts[start] = own
        node.input[_FIRST_STATE + position] = start
        if not final:
            final = node.output[1 + position] = f"{prefix}_T"
        lengths = node.input[SEQUENCE_LENS]
        if lengths and self._may_keep_no_step(node):
            # ONNX Runtime gives zero to a row without steps; a mask may keep none of a chunk.
            ran = node.output[1 + position] = f"{prefix}_ran"
            zero = self._constant(f"{prefix}_zero", np.zeros(1, np.int32))
            self._after(place, "Greater", [lengths, zero], f"{prefix}_some")
            axes = self._constant(f"{prefix}_axes", [0, 2])
            self._after(place, "Unsqueeze", [f"{prefix}_some", axes], f"{prefix}_some_rows")  # [1, batch, 1]
            self._after(place, "Where", [f"{prefix}_some_rows", ran, start], final)
        if final not in {value.name for value in self.graph.output}:
            info = helper.make_tensor_value_info(final, TensorProto.FLOAT, (1, "stream.batch", units))
            self.graph.output.append(info)
        self.states.append(StateTensor(name, given, final, units))

    def _require_forward(self, node: onnx.NodeProto) -> None:
        direction = attribute(node, "direction", b"forward")
        direction = direction.decode() if isinstance(direction, bytes) else str(direction)
        if direction != "forward":
            last = "needs the last step first" if direction == "reverse" else "reads the sequence from its end too"
            raise CannotStreamError(
                f"{self.layer(node)} cannot stream: it is {direction}, so it {last}; "
                "use run or predict on whole sequences, or train a model that runs forward only"
            )

    def _require_own_start(self, node: onnx.NodeProto, initial: list[str]) -> None:
        for name in filter(None, initial):
            inputs, recurrent = self.reading.upstream(name)
            if recurrent:
                raise CannotStreamError(
                    f"{self.layer(node)} cannot stream: it starts from what {self.layer(recurrent[0])} gives at the "
                    "end of the sequence; export the two as models of their own, with states as inputs and outputs"
                )
            if late := inputs & self.sequence_inputs:
                raise CannotStreamError(
                    f"{self.layer(node)} cannot stream: its initial state is computed from the whole of "
                    f"{', '.join(map(repr, sorted(late)))}"
                )

    def _from_own_state(self, name: str) -> bool:
        """Whether a state that the model itself takes is in it, which then carries this one from chunk to chunk."""
        inputs = self.reading.upstream(name)[0] if name else set()
        if not inputs & self.carried_inputs:
            return False
        self.into_states |= inputs - self.carried_inputs
        return True

    def _first_only(self) -> tuple[str, ...]:
        reading = Reading(self.model)
        read = {value.name for value in self.graph.output}  # at every step
        for node in reversed(self.graph.node):
            if read.intersection(node.output):
                own = self.starts.get(node.output[0])
                read.update(name for name in reading.reads(node) if name != own)
        started = {name for own in self.starts.values() for name in self.reading.upstream(own)[0]}
        return tuple(name for name in self.reading.inputs if name in started - read - self.carried_inputs)

    def _may_keep_no_step(self, node: onnx.NodeProto) -> bool:
        info = self.layers.get(node.name)
        return info is None or info.lengths == "mask"

    def _title(self, layer: str) -> str:
        """The layer's name, numbered where another call of it has that already."""
        taken = {state.name.rpartition(".")[0] for state in self.states}
        names = (layer if not number else f"{layer}#{number}" for number in range(len(taken) + 1))
        return next(name for name in names if name not in taken)

    def _optional_input(self, name: str, default: np.ndarray, axes: tuple[int | str, ...]) -> None:
        """A graph input that the initializer of its name stands in for."""
        kind = helper.np_dtype_to_tensor_dtype(default.dtype)
        self.graph.input.append(helper.make_tensor_value_info(name, kind, axes))
        self.graph.initializer.append(numpy_helper.from_array(default, name))

    def _constant(self, name: str, value: list[int] | np.ndarray) -> str:
        self.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def _before(self, place: int, op: str, inputs: list[str], output: str, **attributes: Any) -> None:
        node = helper.make_node(op, inputs, [output], name=output, **attributes)
        self.before.setdefault(place, []).append(node)

    def _after(self, place: int, op: str, inputs: list[str], output: str) -> None:
        self.after.setdefault(place, []).append(helper.make_node(op, inputs, [output], name=output))
