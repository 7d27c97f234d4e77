"""Write a plan into the graph: neutral recurrent nodes before the loop, and everything that read it moved to them.

Needs: a plan. Guarantees: nobody reads the loop any more; nodes without readers are left for the caller to drop.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from seqport.exporters.lift.errors import NotLiftedError
from seqport.exporters.lift.gates import Gate
from seqport.exporters.lift.hoist import Hoist
from seqport.exporters.lift.neutral import neutral
from seqport.exporters.lift.outputs import Outputs
from seqport.exporters.lift.plan import Layer, Plan
from seqport.exporters.lift.report import Lifted
from seqport.exporters.lift.steps import Affine, Slice, State
from seqport.exporters.lift.walk import attribute, body_of
from seqport.exporters.passes.builder import Builder
from seqport.exporters.passes.lengths import is_zero


def emit(plan: Plan, name: str) -> list[Lifted]:
    """Replace the loop; see the module.

    Raises:
        NotLiftedError: an output of the loop cannot be had from the layers.
    """
    return _Emitter(plan, name).run()


class _Emitter:
    def __init__(self, plan: Plan, name: str) -> None:
        self.plan, self.steps, self.name = plan, plan.steps, name
        self.build = Builder(plan.steps.node, name)
        self.outputs = Outputs(plan)
        self.known: dict[ir.Value, ir.Value] = {}
        self.hoist = Hoist(self.build, plan.steps, self.known)
        self.finals: dict[int, ir.Value] = {}
        self.time: ir.Value | None = None
        self._double = any(self._is_double(layer) for layer in plan.layers)

    def run(self) -> list[Lifted]:
        count = self._count()
        for value, part in self.steps.slices.items():
            self.known[value] = self._time_major(part, count)
        self.time = self.build.op("Shape", self.known[next(iter(self.steps.slices))], start=0, end=1)
        lifted = [self._layer(i, layer) for i, layer in enumerate(self.plan.layers)]
        replacements = [*self.steps.unchanged]
        for emitted in self.steps.emitted:
            if _is_used(emitted.outer):
                y = self._sequence(emitted.inner)
                replacements.append((emitted.outer, self._collected(y, emitted.axis, emitted.backwards)))
        for i, carried in enumerate(self.plan.carried):
            if _is_used(carried.state.final):
                replacements.append((carried.state.final, self._final(i)))
        replacements.extend(self._joined_finals())
        for before, after in replacements:
            replace(self.steps.node, before, after)
        # A body that is dropped would go on reading the outer graph.
        for inner in body_of(self.steps.node):
            for index in range(len(inner.inputs)):
                inner.replace_input_with(index, None)
        return lifted

    def _count(self) -> ir.Value | None:
        """The number of steps, int64 [1], where the loop may stop before its input ends."""
        bounds = [self._number(bound) for bound in self.plan.bounds]
        if not bounds:
            return None
        return bounds[0] if len(bounds) == 1 else self.build.op("Min", *bounds)

    def _number(self, bound: Affine) -> ir.Value:
        total = self.build.const([bound.constant])
        keys = bound.keys()
        for key in keys:
            if isinstance(key, tuple):
                source, axis = key
                item = self.build.op("Shape", source, start=axis, end=axis + 1)
            else:
                assert isinstance(key, ir.Value)
                wide = self.build.op("Cast", key, to=ir.DataType.INT64)
                item = self.build.op("Reshape", wide, self.build.const([1], name="shape"))
            if bound.of(key) != 1:
                item = self.build.op("Mul", item, self.build.const([bound.of(key)]))
            total = item if not bound.constant and len(keys) == 1 else self.build.op("Add", total, item)
        return total

    def _time_major(self, part: Slice, count: ir.Value | None) -> ir.Value:
        """The sequence with time first, cut to the steps that the loop runs."""
        value = part.sequence
        if part.axis:
            shape = self.steps.facts.shape(value)
            rank = 3 if shape is None else len(shape)
            value = self.build.op("Transpose", value, perm=[part.axis, *(i for i in range(rank) if i != part.axis)])
        if count is None:
            return value
        return self.build.op("Slice", value, self.build.const([0]), count, self.build.const([0], name="axes"))

    def _layer(self, number: int, layer: Layer) -> Lifted:
        cell = layer.cell
        name = self.name if len(self.plan.layers) == 1 else f"{self.name}.{number}"
        x, W = self._input(layer)
        x, double = self._single(x), self._is_double(layer)
        lengths, mask = self._gate(layer.gate)
        initial = [self._initial(i, cell.projection if i == layer.h else None) for i in layer.states]
        y, h_T, c_T = neutral(
            self.build,
            self.steps.node,
            name,
            cell,
            x,
            W,
            initial,
            lengths=lengths,
            mask=mask,
            reverse=self.plan.reverse,
            padding=self.outputs.padding(layer),
        )
        if double:
            y, h_T, c_T = (self.build.op("Cast", value, to=ir.DataType.DOUBLE) for value in (y, h_T, c_T))
        if cell.projection is not None:
            W_hr = self.build.const(cell.projection, np.float64 if double else np.float32, "W_hr")
            y, h_T = self.build.op("MatMul", y, W_hr), self.build.op("MatMul", h_T, W_hr)
        carried = self.plan.carried[layer.h]
        self.outputs.set(layer, y)
        self.known[carried.new] = y
        self.known.setdefault(self.steps.resolve(carried.state.leaving), y)
        for i, final in zip(layer.states, (h_T, c_T), strict=False):
            self.finals[i] = final
        gate = "" if layer.gate is None else layer.gate.kind
        direction = "reverse" if self.plan.reverse else "forward"
        return Lifted(name, self.steps.node.op_type, cell.kind, cell.size, direction, gate)

    def _is_double(self, layer: Layer) -> bool:
        return self.steps.facts.dtype(self.plan.carried[layer.h].state.initial) == ir.DataType.DOUBLE

    def _single(self, value: ir.Value) -> ir.Value:
        """The value as float32, where the loop computes in float64 and may be narrowed."""
        return self.build.op("Cast", value, to=ir.DataType.FLOAT) if self.plan.narrow and self._double else value

    def _input(self, layer: Layer) -> tuple[ir.Value, np.ndarray]:
        """The layer's x [seq, batch, input_dim], its parts joined, and W_hx for it."""
        parts, matrices = [], []
        for name, matrix in layer.cell.inputs.items():
            if name.startswith("new "):
                parts.append(self.outputs.of(int(name.removeprefix("new "))))
            else:
                value = self.plan.inputs[name]
                sequence = self.hoist.sequence(value)
                parts.append(sequence if self._has_time(value) else self._repeated(sequence))
            matrices.append(matrix)
        if not parts:
            raise NotLiftedError("its cell reads no input")
        joined = parts[0] if len(parts) == 1 else self.build.op("Concat", *parts, axis=2)
        return joined, np.concatenate(matrices, axis=1)

    def _has_time(self, value: ir.Value) -> bool:
        return self.steps.is_inner(self.steps.resolve(value))

    def _repeated(self, value: ir.Value) -> ir.Value:
        """A value of the row, [batch, size], at every step."""
        assert self.time is not None
        shape = self.build.op("Concat", self.time, self.build.op("Shape", value), axis=0)
        return self.build.op("Expand", value, shape)

    def _gate(self, gate: Gate | None) -> tuple[ir.Value | None, ir.Value | None]:
        """Lengths [batch] between 0 and seq, or a mask [batch, seq]."""
        if gate is None:
            return None, None
        if gate.lengths is not None:
            value, offset = gate.lengths
            flat = self.build.op("Reshape", value, self.build.const([-1], name="shape"))
            lengths = self.build.op("Cast", flat, to=ir.DataType.INT64)
            if offset:
                lengths = self.build.op("Add", lengths, self.build.const([offset]))
            assert self.time is not None
            lengths = self.build.op("Min", lengths, self.time)
            return self.build.op("Max", lengths, self.build.const([0])), None
        if isinstance(gate.mask, Slice):
            found = next(v for v, part in self.steps.slices.items() if part == gate.mask)
            whole = batch_first(gate.mask.sequence) if not self.plan.bounds and gate.mask.axis == 0 else None
            mask = whole if whole is not None else self._batch_first(self.known[found])
        else:
            assert gate.mask is not None
            mask = self._batch_first(self.hoist.sequence(gate.mask))
        dtype = self.steps.facts.dtype(gate.mask.sequence if isinstance(gate.mask, Slice) else gate.mask)
        if dtype not in (None, ir.DataType.BOOL):
            mask = self.build.op("Cast", mask, to=ir.DataType.BOOL)
        return None, mask if gate.valid else self.build.op("Not", mask)

    def _batch_first(self, mask: ir.Value) -> ir.Value:
        flat = self.build.op("Reshape", mask, self.build.const([0, -1], name="shape"))
        return self.build.op("Transpose", flat, perm=[1, 0])

    def _initial(self, i: int, projection: np.ndarray | None) -> ir.Value | None:
        value = self._first(self.plan.carried[i].state)
        shape = self.steps.facts.shape(value)
        if shape is not None and len(shape) != 2:
            raise NotLiftedError(f"its state has {len(shape)} axes, where [batch, num_hidden_units] was expected")
        dtype = self.steps.facts.dtype(value)
        if dtype not in (None, ir.DataType.FLOAT) and not (self.plan.narrow and dtype == ir.DataType.DOUBLE):
            raise NotLiftedError(f"its state is {dtype.name}, and ONNX Runtime's recurrent operators are float32")
        value = self._single(value)
        if projection is not None and not is_zero(value):
            if np.linalg.matrix_rank(projection) < projection.shape[1]:
                raise NotLiftedError("its state is projected to more than the rank of its projection, and given")
            # A u whose projection is the given h.
            value = self.build.op("MatMul", value, self.build.const(np.linalg.pinv(projection), np.float32, "inverse"))
        return self.build.op("Unsqueeze", value, self.build.const([0], name="axes"))

    def _first(self, state: State) -> ir.Value:
        """The initial value of a state, or of a piece of a joined one."""
        if state.columns is None or is_zero(state.initial):
            return state.initial
        start, end = (self.build.const([at]) for at in state.columns)
        return self.build.op("Slice", state.initial, start, end, self.build.const([1], name="axes"))

    def _joined_finals(self) -> list[tuple[ir.Value, ir.Value]]:
        """The final values of joined states that somebody reads."""
        pieces: dict[ir.Value, list[int]] = {}
        for i, carried in enumerate(self.plan.carried):
            if carried.state.whole is not None and _is_used(carried.state.whole.final):
                pieces.setdefault(carried.state.whole.final, []).append(i)
        return [
            (final, self.build.op("Concat", *(self._final(i) for i in numbers), axis=1))
            for final, numbers in pieces.items()
        ]

    def _final(self, i: int) -> ir.Value:
        axes = self.build.const([0], name="axes")
        if i in self.finals:
            return self._or_initial(i, self.build.op("Squeeze", self.finals[i], axes))
        y = self._sequence(self.plan.carried[i].state.leaving)
        last = self.build.const(0 if self.plan.reverse else -1)
        return self.build.op("Gather", y, last, axis=0)

    def _or_initial(self, i: int, final: ir.Value) -> ir.Value:
        """The initial state where there is no step: ONNX Runtime's layers give zeros there."""
        gate = next(layer.gate for layer in self.plan.layers if i in layer.states)
        initial = self._first(self.plan.carried[i].state)
        if is_zero(initial) or (gate is not None and gate.lengths is not None):  # lengths of zero are seen to elsewhere
            return final
        assert self.time is not None
        some = self.build.op("Greater", self.time, self.build.const([0], name="none"))
        return self.build.op("Where", some, final, initial)

    def _collected(self, y: ir.Value, axis: int, backwards: bool) -> ir.Value:
        """Y [seq, batch, ...] as the loop collects it: in the order of its steps, along its axis."""
        if backwards != self.plan.reverse:
            ends = [self.build.const([value], name="flip") for value in (-1, -(2**63))]
            axes, by = self.build.const([0], name="axes"), self.build.const([-1], name="flip")
            y = self.build.op("Slice", y, *ends, axes, by)
        if axis in (0, -3):
            return y
        if axis in (1, -2):
            return self.build.op("Transpose", y, perm=[1, 0, 2])
        raise NotLiftedError(f"it collects its outputs along axis {axis}")

    def _sequence(self, value: ir.Value) -> ir.Value:
        return self.outputs.sequence(value, self.hoist.sequence, self._where_seen, self._where_valid)

    def _steps(self) -> ir.Value:
        """The numbers of the steps, [seq, 1]."""
        assert self.time is not None
        bounds = [self.build.const(0), self.build.op("Squeeze", self.time), self.build.const(1)]
        return self.build.op("Unsqueeze", self.build.op("Range", *bounds), self.build.const([1], name="axes"))

    def _where_valid(self, layer: Layer, value: ir.Value) -> ir.Value:
        """A value [seq, batch, ...] with zeros at masked steps."""
        lengths, mask = self._gate(layer.gate)
        if lengths is not None:
            valid = self.build.op("Less", self._steps(), lengths)
        else:
            valid = self.build.op("Transpose", mask, perm=[1, 0])
        valid = self.build.op("Unsqueeze", valid, self.build.const([2], name="axes"))
        zero = self.build.const(0.0, np.float64 if self._double else np.float32, "zero")
        return self.build.op("Where", valid, value, zero)

    def _where_seen(self, layer: Layer, y: ir.Value, state: State) -> ir.Value:
        """Y with the initial state at masked steps before a row's first valid one."""
        initial = self._first(state)
        lengths, mask = self._gate(layer.gate)
        if lengths is not None:
            # A backward layer meets a row's padding first; a forward one only where the row is nothing else.
            step = self._steps() if self.plan.reverse else self.build.const(0)
            seen = self.build.op(
                "Unsqueeze", self.build.op("Greater", lengths, step), self.build.const([-1], name="axes")
            )
        else:
            kept = self.build.op("Cast", self.build.op("Transpose", mask, perm=[1, 0]), to=ir.DataType.INT64)
            count = self.build.op("CumSum", kept, self.build.const(0), reverse=int(self.plan.reverse))
            seen = self.build.op(
                "Unsqueeze", self.build.op("Greater", count, self.build.const(0)), self.build.const([2], name="axes")
            )
        return self.build.op("Where", seen, y, initial)


def replace(node: ir.Node, before: ir.Value, after: ir.Value) -> None:
    """Move every reader, and the graph's output where it is one, to another value."""
    graph = node.graph
    assert isinstance(graph, ir.Graph)
    if before.is_graph_output():
        named = ir.node("Identity", [after])
        graph.insert_before(node, named)
        named.outputs[0].name, before.name = before.name, None
        named.outputs[0].shape, named.outputs[0].type = before.shape, before.type
        for index, output in enumerate(graph.outputs):
            if output is before:
                graph.outputs[index] = named.outputs[0]
    before.replace_all_uses_with(after)


def _is_used(value: ir.Value) -> bool:
    return bool(value.uses()) or value.is_graph_output()


def batch_first(sequence: ir.Value) -> ir.Value | None:
    """The [batch, seq] behind a transposed sequence of booleans, as Keras writes its masks."""
    node = sequence.producer()
    if node is None or node.op_type != "Transpose" or node.inputs[0] is None:
        return None
    perm, source = tuple(attribute(node, "perm") or ()), node.inputs[0]
    if perm == (1, 0):
        return source
    inner = source.producer()
    if perm != (1, 0, 2) or inner is None or inner.op_type != "Unsqueeze":
        return None
    axes = ir.convenience.get_const_tensor(inner.inputs[1]) if inner.inputs[1] is not None else None
    return inner.inputs[0] if axes is not None and axes.numpy().tolist() in ([2], [-1]) else None
