"""One recurrent node as a Scan over its steps: what `cuda_forms` puts in the place of a node.

One MatMul computes the inputs' part of all steps; the Scan's body is `cells`' step, for both directions at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from seqport.runtime.gpu_model import STEP
from seqport.runtime.rewriting.cells import Cell, Weights, Writer, activations

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
_X, _W, _R, _B, _LENGTHS, _H_0, _C_0, _PEEPHOLES = range(8)


def attributes_of(node: onnx.NodeProto) -> dict[str, Any]:
    """A recurrent node's attributes by name, activations as str."""
    values = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    if "activations" in values:
        values["activations"] = [name.decode() for name in values["activations"]]
    return values


def directions_of(attributes: Mapping[str, Any]) -> int:
    """How many directions a node with these attributes has."""
    return 2 if attributes.get("direction") == b"bidirectional" else 1


class ScanForm:
    """One node's new form.

    Args:
        node: an RNN, GRU or LSTM with steps on the first axis, whose activations are all ONNX's.
        name: what the Scan is called.
    """

    def __init__(self, node: onnx.NodeProto, name: str) -> None:
        self._attributes = attributes_of(node)
        self._node, self._name = node, name
        self._inputs = [*node.input, *[""] * (8 - len(node.input))]
        self._outputs = [*node.output, *[""] * (3 - len(node.output))]
        self._size = int(self._attributes["hidden_size"])
        count = directions_of(self._attributes)
        self._reverse = [False, True] if count == 2 else [self._attributes.get("direction") == b"reverse"]
        self._states = 2 if node.op_type == "LSTM" else 1
        functions = activations(node.op_type, self._attributes, count)
        assert functions is not None
        clip = self._attributes.get("clip", -1.0)
        self._cells = [
            Cell(
                node.op_type,
                self._size,
                of_direction,
                clip if clip >= 0 else None,
                bool(self._attributes.get("linear_before_reset", 0)),
                bool(self._attributes.get("input_forget", 0)),
            )
            for of_direction in functions
        ]
        # The value's own name makes these unique within the model; a node's name need not be.
        self._write = Writer(f"{next(filter(None, node.output))}/scan", name)

    def nodes(self) -> list[onnx.NodeProto]:
        """The nodes that stand for it, in order."""
        write = self._write
        weights, scanned, initial = [], [], []
        for direction in range(len(self._reverse)):
            found, x = self._outside(direction)
            weights.append(found)
            scanned.append(x)
            initial += self._initial(direction)
        mask = self._mask()  # [steps, batch, 1]: whether a step is valid
        body = self._body(weights, mask is not None)
        # Each direction reads the mask in its own order.
        inputs = [*scanned, *([mask] * len(scanned) if mask else [])]
        order = [int(reverse) for reverse in self._reverse]
        finals = [write.name("final") for _ in initial]
        sequences = [write.name("sequence") for _ in scanned] if self._outputs[0] else []
        write.nodes.append(
            helper.make_node(
                "Scan",
                [*initial, *inputs],
                [*finals, *sequences],
                name=self._name,
                body=body,
                num_scan_inputs=len(inputs),
                scan_input_directions=order * (2 if mask else 1),
                scan_output_directions=order if sequences else None,
            )
        )
        if self._outputs[0]:  # [steps, directions, batch, hidden], zero at padded steps
            self._join(0, [self._zero_unless(mask, sequence) for sequence in sequences], axis=1)
        for state in range(self._states):  # [directions, batch, hidden]
            if self._outputs[1 + state]:
                of_state = finals[state :: self._states]
                self._join(1 + state, [self._zero_unless(self._any_steps(), final) for final in of_state], axis=0)
        return write.nodes

    def _of(self, which: int, direction: int) -> str:
        """One direction of an input, without its axis."""
        return self._write("Gather", self._inputs[which], self._write.constant(direction, np.int64), axis=0)

    def _outside(self, direction: int) -> tuple[Weights, str]:
        """The weights that the loop reads, and W x with its bias for all steps, [steps, batch, gates × hidden]."""
        write, rows = self._write, GATES[self._node.op_type] * self._size
        x = write("MatMul", self._inputs[_X], write("Transpose", self._of(_W, direction), perm=[1, 0]))
        inside = None
        if self._inputs[_B]:
            of_x, of_h = write.split(self._of(_B, direction), [rows, rows])
            if self._cells[direction].reset_after:
                inside = of_h  # the reset gate multiplies the candidate's part of it
            else:
                of_x = write("Add", of_x, of_h)
            x = write("Add", x, of_x)
        peepholes = self._of(_PEEPHOLES, direction) if self._inputs[_PEEPHOLES] else None
        return self._cells[direction].weights(write, self._of(_R, direction), inside, peepholes), x

    def _initial(self, direction: int) -> list[str]:
        found = []
        for which in (_H_0, _C_0)[: self._states]:
            if self._inputs[which]:
                found.append(self._of(which, direction))
            else:
                shape = self._write("Concat", self._batch(), self._write.constant([self._size], np.int64), axis=0)
                found.append(self._write("Expand", self._write.constant([[0.0]]), shape))
        return found

    def _batch(self) -> str:
        shape = self._write("Shape", self._inputs[_X])
        return self._write("Gather", shape, self._write.constant([1], np.int64), axis=0)

    def _mask(self) -> str | None:
        if not self._inputs[_LENGTHS]:
            return None
        write = self._write
        shape = write("Shape", self._inputs[_X])
        count = write("Gather", shape, write.constant(0, np.int64), axis=0)
        steps = write("Range", write.constant(0, np.int64), count, write.constant(1, np.int64))
        steps = write("Unsqueeze", steps, write.constant([1, 2], np.int64))  # [steps, 1, 1]
        lengths = write("Cast", self._inputs[_LENGTHS], to=TensorProto.INT64)
        return write("Less", steps, write("Unsqueeze", lengths, write.constant([1], np.int64)))

    def _any_steps(self) -> str | None:
        """[batch, 1]: whether a row has any step; ONNX Runtime gives zero for the states of one that has none."""
        if not self._inputs[_LENGTHS]:
            return None
        write = self._write
        lengths = write("Unsqueeze", self._inputs[_LENGTHS], write.constant([1], np.int64))
        return write("Greater", lengths, write.constant(0, np.int32))

    def _zero_unless(self, condition: str | None, value: str) -> str:
        return value if condition is None else self._write("Where", condition, value, self._write.constant(0.0))

    def _join(self, output: int, parts: list[str], axis: int) -> None:
        """Put the directions together under the name of the node's output."""
        write = self._write
        axes = write.constant([axis], np.int64)
        parts = [write("Unsqueeze", part, axes) for part in parts]
        write.nodes.append(
            helper.make_node("Concat", parts, [self._outputs[output]], name=write.name("joined"), axis=axis)
        )

    def _body(self, weights: list[Weights], masked: bool) -> onnx.GraphProto:
        """One step of all directions; a row that has ended keeps its states."""
        write = Writer(self._write.name("body"), f"{self._name}{STEP}")
        count, each = len(self._cells), self._states
        states = [write.name("state") for _ in range(count * each)]
        xs = [write.name("x") for _ in range(count)]
        valid = [write.name("valid") for _ in range(count if masked else 0)]
        after: list[str] = []
        for direction, cell in enumerate(self._cells):
            before = states[direction * each : (direction + 1) * each]
            new = cell.step(write, xs[direction], before, weights[direction])
            if masked:
                new = [write("Where", valid[direction], now, old) for now, old in zip(new, before, strict=True)]
            after += new
        sequences = [write("Identity", h) for h in after[::each]] if self._outputs[0] else []

        def value(name: str, kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
            return helper.make_tensor_value_info(name, kind, None)

        # ONNX Runtime refuses a Scan whose outputs' ranks are not known; from inputs without shapes they do not follow.
        outputs = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, self._size]) for name in (*after, *sequences)
        ]
        inputs = [*map(value, [*states, *xs]), *(value(name, TensorProto.BOOL) for name in valid)]
        return helper.make_graph(write.nodes, "step", inputs, outputs)
