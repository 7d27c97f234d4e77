"""A drawn loop as an ONNX model: the cell's nodes, and a Scan, a Loop or steps one after another around them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from properties.loops import GATES, Cell, Loop

# Of unrolled loops.
STEPS = 4
_FLOAT, _INT, _BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL


class Writer:
    """Nodes in order; every call returns the name of what the node gives."""

    def __init__(self, prefix: str = "") -> None:
        self.nodes: list[onnx.NodeProto] = []
        self._prefix = prefix

    def __call__(self, op: str, *inputs: str, outputs: int = 1, **attributes: Any) -> Any:
        names = [f"{self._prefix}{op}_{len(self.nodes)}" + (f"_{i}" if i else "") for i in range(outputs)]
        self.nodes.append(helper.make_node(op, inputs, names, name=names[0], **attributes))
        return names[0] if outputs == 1 else names

    def named(self, name: str, value: str) -> str:
        """The value under a name of its own."""
        self.nodes.append(helper.make_node("Identity", [value], [name], name=f"{self._prefix}name_{name}"))
        return name


class _Step:
    """The equations of a cell, written into a graph."""

    def __init__(self, cell: Cell, write: Writer) -> None:
        self.cell, self.write = cell, write

    def __call__(self, x: str, h: str, c: str) -> tuple[str, str]:
        """The next h and c from x [batch, features] and the states [batch, units]."""
        kind = self.cell.kind
        if kind == "gru":
            return self._gru(x, h), c
        from_x, from_h = self._products(x, "W"), self._products(h, "R")
        sums = {gate: self.sum(from_x[gate], from_h[gate]) for gate in GATES[kind]}
        if kind == "rnn":
            return self.write(self.cell.activation, sums["h"]), c
        i, f, o = (self.write(self.cell.gate, sums[gate]) for gate in "ifo")
        g = self.write(self.cell.activation, sums["g"])
        c = self.sum(self.product(f, c), self.product(i, g))
        return self.product(o, self.write(self.cell.activation, c)), c

    def _gru(self, x: str, h: str) -> str:
        cell, write = self.cell, self.write
        from_x = self._products(x, "W")
        from_h = self._products(h, "R", gates="zr" if cell.reset_before else "zrn")
        z, r = (write(cell.gate, self.sum(from_x[gate], from_h[gate])) for gate in "zr")
        if cell.reset_before:
            inner = self._products(self.product(r, h), "R", gates="n")["n"]
        else:
            inner = self.product(r, from_h["n"])
        n = write(cell.activation, self.sum(from_x["n"], inner))
        if cell.blend == "step":
            return self.sum(h, self.product(z, write("Sub", n, h)))
        rest = write("Sub", "one", z)
        kept, taken = (z, rest) if cell.blend == "both" else (rest, z)
        return self.sum(self.product(kept, h), self.product(taken, n))

    def _products(self, value: str, matrix: str, gates: str | None = None) -> dict[str, str]:
        """The value times each gate's matrix, with the bias; all in one product where the gates are joined."""
        cell = self.cell
        biased = cell.biases == "both" or (cell.biases == "input" and matrix == "W")
        wanted = [gate for gate in cell.order if gate in (gates or cell.order)]
        whole = cell.joined and len(wanted) > 1
        found = {}
        for gate in ["".join(wanted)] if whole else wanted:
            found[gate] = self.write("MatMul", value, f"{matrix}_{gate}")
            if biased:
                found[gate] = self.sum(found[gate], f"b{matrix}_{gate}")
        if not whole:
            return found
        parts = self.write("Split", *found.values(), outputs=len(wanted), axis=-1, num_outputs=len(wanted))
        return dict(zip(wanted, parts, strict=True))

    def sum(self, one: str, other: str) -> str:
        return self.write("Add", *((other, one) if self.cell.swapped else (one, other)))

    def product(self, one: str, other: str) -> str:
        return self.write("Mul", *((other, one) if self.cell.swapped else (one, other)))


def build(loop: Loop, seed: int = 0) -> onnx.ModelProto:
    """The model: x, the gate and the initial states in; every output and the final states out.

    x is [seq, batch, features] for a Scan, which reads its first axis, and [batch, seq, features] otherwise.
    """
    states = ["h", "c"] if loop.cell.kind == "lstm" else ["h"]
    outer = Writer("outer/")
    initial = [
        f"{state}_0" if loop.given_state else _zeros(outer, "step" if loop.form == "scan" else "zero")
        for state in states
    ]
    y, finals = {"scan": _scan, "loop": _loop, "unrolled": _unrolled}[loop.form](loop, outer, initial)
    outer.named("y", y)
    for state, final in zip(states, finals, strict=True):
        outer.named(f"{state}_T", final)
    steps = STEPS if loop.form == "unrolled" else "T"
    time_first = loop.form == "scan"
    axes = [steps, "B"] if time_first else ["B", steps]
    inputs = [helper.make_tensor_value_info("x", _FLOAT, [*axes, loop.cell.features])]
    if loop.gated == "mask":
        inputs.append(helper.make_tensor_value_info("mask", _BOOL, axes))
    elif loop.gated == "lengths":
        inputs.append(helper.make_tensor_value_info("lengths", _INT, ["B"]))
    size = ["B", loop.cell.units]
    inputs += [helper.make_tensor_value_info(name, _FLOAT, size) for name in initial if loop.given_state]
    y_axes = ["B", steps] if loop.form == "unrolled" else ["T", "B"]
    outputs = [helper.make_tensor_value_info("y", _FLOAT, [*y_axes, loop.cell.units])]
    outputs += [helper.make_tensor_value_info(f"{state}_T", _FLOAT, size) for state in states]
    graph = helper.make_graph(outer.nodes, "drawn", inputs, outputs, _constants(loop.cell, outer.nodes, seed))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    return model


def _zeros(write: Writer, axis: str) -> str:
    """[batch, units] of zeros; the batch's axis in x is the constant of that name."""
    batch = write("Gather", write("Shape", "x"), axis)
    return write("Expand", "nought", write("Concat", write("Unsqueeze", batch, "first"), "units", axis=0))


def _gated(
    loop: Loop, write: Writer, valid: str | None, old: Sequence[str], new: Sequence[str]
) -> tuple[list[str], str]:
    """The states after a step, and its output."""
    if valid is None:
        return list(new), new[0]
    column = write("Unsqueeze", valid, "last")  # [batch, 1]
    if loop.weighted:
        kept = write("Cast", column, to=_FLOAT)
        rest = write("Sub", "one", kept)
        states = [write("Add", write("Mul", kept, b), write("Mul", rest, a)) for a, b in zip(old, new, strict=True)]
        return states, states[0] if loop.padded == "hold" else write("Mul", new[0], kept)
    states = [write("Where", column, b, a) for a, b in zip(old, new, strict=True)]
    return states, states[0] if loop.padded == "hold" else write("Where", column, new[0], "nought")


def _valid(loop: Loop, write: Writer, t: str) -> str | None:
    """Which rows are valid at step t of the sequence."""
    if loop.gated == "lengths":
        return write("Less", t, "lengths")
    return write("Gather", "mask", t, axis=0 if loop.form == "scan" else 1) if loop.gated == "mask" else None


def _scan(loop: Loop, outer: Writer, initial: list[str]) -> tuple[str, list[str]]:
    """A Scan that carries the number of the step, by which lengths and masks are read."""
    write, states = Writer("step/"), ["h", "c"][: len(initial)]
    last = outer("Sub", outer("Gather", outer("Shape", "x"), "zero"), "step")
    t = write("Sub", last, "t") if loop.backwards else "t"
    h, c = _Step(loop.cell, write)("x_t", "h", "c")
    left, out = _gated(loop, write, _valid(loop, write, t), states, [h, c][: len(states)])
    names = [write.named("t_next", write("Add", "t", "step"))]
    names += [write.named(f"{s}_next", value) for s, value in zip(states, left, strict=True)]
    names.append(write.named("y_t", out))
    size = ["B", loop.cell.units]
    infos = [helper.make_tensor_value_info("t", _INT, [])]
    infos += [helper.make_tensor_value_info(state, _FLOAT, size) for state in states]
    infos.append(helper.make_tensor_value_info("x_t", _FLOAT, ["B", loop.cell.features]))
    given = [helper.make_tensor_value_info(names[0], _INT, [])]
    given += [helper.make_tensor_value_info(name, _FLOAT, size) for name in names[1:]]
    body = helper.make_graph(write.nodes, "step", infos, given)
    _, *finals, y = outer(
        "Scan",
        "zero",
        *initial,
        "x",
        outputs=len(initial) + 2,
        body=body,
        num_scan_inputs=1,
        scan_input_directions=[int(loop.backwards)],
        scan_output_directions=[int(loop.backwards)],
    )
    return y, finals


def _loop(loop: Loop, outer: Writer, initial: list[str]) -> tuple[str, list[str]]:
    """A Loop that stacks its outputs in the order in which it makes them."""
    write, states = Writer("step/"), ["h", "c"][: len(initial)]
    seq = outer("Gather", outer("Shape", "x"), "step")
    t = write("Sub", write("Sub", seq, "t"), "step") if loop.backwards else "t"
    h, c = _Step(loop.cell, write)(write("Gather", "x", t, axis=1), "h", "c")
    left, out = _gated(loop, write, _valid(loop, write, t), states, [h, c][: len(states)])
    names = [write.named("go_on", "go")]
    names += [write.named(f"{s}_next", value) for s, value in zip(states, left, strict=True)]
    names.append(write.named("y_t", out))
    size = ["B", loop.cell.units]
    infos = [helper.make_tensor_value_info("t", _INT, []), helper.make_tensor_value_info("go", _BOOL, [])]
    infos += [helper.make_tensor_value_info(s, _FLOAT, size) for s in states]
    given = [helper.make_tensor_value_info(names[0], _BOOL, [])]
    given += [helper.make_tensor_value_info(name, _FLOAT, size) for name in names[1:]]
    body = helper.make_graph(write.nodes, "step", infos, given)
    *finals, y = outer("Loop", seq, "yes", *initial, outputs=len(initial) + 1, body=body)
    return y, finals


def _unrolled(loop: Loop, outer: Writer, initial: list[str]) -> tuple[str, list[str]]:
    """STEPS steps one after another; outputs stand in the order of time."""
    states, outputs = list(initial), {}
    for t in reversed(range(STEPS)) if loop.backwards else range(STEPS):
        h, c = _Step(loop.cell, outer)(outer("Gather", "x", f"t_{t}", axis=1), states[0], states[-1])
        states, out = _gated(loop, outer, _valid(loop, outer, f"t_{t}"), states, [h, c][: len(states)])
        outputs[t] = outer("Unsqueeze", out, "second")
    return outer("Concat", *(outputs[t] for t in range(STEPS)), axis=1), states


def _constants(cell: Cell, nodes: Sequence[onnx.NodeProto], seed: int) -> list[onnx.TensorProto]:
    """Every constant that the nodes read: random weights, and a few numbers."""
    random = np.random.default_rng(seed)
    found: dict[str, np.ndarray] = {
        "one": np.ones(1, np.float32),
        "nought": np.zeros(1, np.float32),
        "zero": np.array(0),
        "step": np.array(1),
        "first": np.array([0]),
        "second": np.array([1]),
        "last": np.array([1]),
        "units": np.array([cell.units]),
        "yes": np.array(True),
    }
    found |= {f"t_{t}": np.array(t) for t in range(STEPS)}
    read = {name for node in _walk(nodes) for name in node.input}
    for name in sorted(read):
        matrix, _, gates = name.partition("_")
        if matrix in ("W", "R"):
            rows = cell.features if matrix == "W" else cell.units
            found[name] = random.uniform(-0.7, 0.7, (rows, cell.units * len(gates))).astype(np.float32)
        elif matrix in ("bW", "bR"):
            found[name] = random.uniform(-0.7, 0.7, cell.units * len(gates)).astype(np.float32)
    return [numpy_helper.from_array(array, name) for name, array in found.items() if name in read]


def _walk(nodes: Sequence[onnx.NodeProto]) -> list[onnx.NodeProto]:
    inner = [node for n in nodes for a in n.attribute if a.type == a.GRAPH for node in _walk(a.g.node)]
    return [*nodes, *inner]
