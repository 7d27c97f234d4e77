"""Write a recurrent layer in place of steps that were written out.

Needs: the steps as one row. Guarantees: one neutral node; everybody who read a state of any step reads its outputs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common

from seqport.exporters.lift.cells import Cell
from seqport.exporters.lift.chains import FEWEST, Chain
from seqport.exporters.lift.emit import replace as move_readers
from seqport.exporters.lift.errors import NotLiftedError
from seqport.exporters.lift.neutral import neutral
from seqport.exporters.lift.report import Lifted
from seqport.exporters.lift.walk import Facts, attribute
from seqport.exporters.passes.builder import Builder, constant
from seqport.exporters.recurrent import DOMAIN, VERSION


@dataclass
class Row:
    """A chain as one layer: the cell, and where its input stands."""

    chain: Chain
    cell: Cell
    sequence: ir.Value
    axis: int
    start: int
    reverse: bool

    @property
    def name(self) -> str:
        """The layer's name, from the names of its nodes."""
        names = [node.name or node.op_type for node in self.chain.products[:2]]
        # A second call of the same module has a number at its end in TorchScript: /cell_1.
        return names[0].rpartition("/")[0] or names[0].removeprefix("node_")


def read_after(chain: Chain) -> list[ir.Value]:
    """What is read after the steps: every h that somebody else reads, and the last c.

    Raises:
        NotLiftedError: somebody reads a c in between.
    """
    inside = _inside(chain)
    states = [*chain.h[1:], *chain.c[1:]]
    found = [value for value in states if value.is_graph_output() or set(value.consumers()) - inside]
    if set(found) & set(chain.c[1:-1]):
        raise NotLiftedError("the cell state of a step in between is used")
    return found


def _inside(chain: Chain) -> set[ir.Node]:
    """Nodes that compute a state: everything between the first product and the last states."""
    found: set[ir.Node] = set()
    stack = [value.producer() for value in (chain.h[-1], *chain.c[-1:])]
    while stack:
        node = stack.pop()
        if node is not None and node not in found and chain.of(node.outputs[0]) >= 0:
            found.add(node)
            stack.extend(value.producer() for value in node.inputs if value is not None)
    return found


def emit(model: ir.Model, row: Row, facts: Facts) -> Lifted:
    """Replace the steps of a model; see the module."""
    chain, cell = row.chain, row.cell
    read_after(chain)
    before = chain.products[0]
    build = Builder(before, row.name)
    x = row.sequence if row.axis == 0 else build.op("Transpose", row.sequence, perm=[1, 0, 2])
    first = row.start - chain.count + 1 if row.reverse else row.start
    size = (facts.shape(row.sequence) or (None,) * 3)[row.axis]
    if first or size != chain.count:
        ends = build.const([first]), build.const([first + chain.count])
        x = build.op("Slice", x, *ends, build.const([0], name="axes"))
    states = [_row(build, facts, states[0]) for states in (chain.h, chain.c) if states]
    matrix = np.concatenate(list(cell.inputs.values()), axis=1)
    y, h_T, c_T = neutral(build, before, row.name, cell, x, matrix, states, reverse=row.reverse)
    _replace_stacks(build, chain, y, before, reverse=row.reverse)
    users = set(read_after(chain))
    for step, value in enumerate(chain.h[1:]):
        if value in users:
            at = chain.count - 1 - step if row.reverse else step
            one = build.op("Slice", y, *(build.const([at + i]) for i in (0, 1)))
            _move(build, facts, before, value, one, last=value is chain.h[-1])
    for value, final in zip((chain.h[-1], *chain.c[-1:]), (h_T, c_T), strict=False):
        if value in users:
            _move(build, facts, before, value, final)
    model.opset_imports[DOMAIN] = VERSION
    common.RemoveUnusedNodesPass()(model)
    model.graph.sort()
    direction = "reverse" if row.reverse else "forward"
    return Lifted(row.name, "unrolled steps", cell.kind, cell.size, direction, "", steps=chain.count)


def _row(build: Builder, facts: Facts, value: ir.Value) -> ir.Value:
    """An initial state as [1, batch, H]."""
    shape = facts.shape(value)
    if facts.dtype(value) not in (None, ir.DataType.FLOAT):
        raise NotLiftedError("its state is not float32, which ONNX Runtime's recurrent operators need")
    if shape is None or len(shape) == 2:
        return build.op("Unsqueeze", value, build.const([0], name="axes"))
    if len(shape) == 3 and shape[0] == 1:
        return value
    raise NotLiftedError(f"its state has the shape {shape}, where [batch, num_hidden_units] was expected")


def _move(build: Builder, facts: Facts, node: ir.Node, value: ir.Value, found: ir.Value, *, last: bool = False) -> None:
    """Give a value's readers another one, [1, batch, H], in the value's own rank.

    Of the last h only the steps of a layer above, for which it is one step of y too; others read the final state.
    """
    shape = facts.shape(value)
    if shape is None or len(shape) == 2:
        found = build.op("Squeeze", found, build.const([0], name="axes"))
    if not last:
        move_readers(node, value, found)
        return
    for use in list(value.uses()):
        if _is_step(use.node):
            use.node.replace_input_with(use.idx, found)


def _is_step(node: ir.Node) -> bool:
    """Whether a node is, or leads to, a product with a matrix that other steps take too."""
    if node.op_type in ("MatMul", "Gemm"):
        weights = node.inputs[1]
        return weights is not None and len(weights.uses()) >= FEWEST
    return node.op_type == "Concat" and any(_is_step(user) for user in node.outputs[0].consumers())


def _replace_stacks(build: Builder, chain: Chain, y: ir.Value, node: ir.Node, *, reverse: bool) -> None:
    """Where all outputs are stacked, in either order, their readers get y."""
    for user in [user for value in _with_axis(chain.h[1]) for user in value[0].consumers()]:
        if user.op_type != "Concat" or len(user.inputs) != chain.count:
            continue
        for states, flipped in ((chain.h[1:], reverse), (chain.h[:0:-1], not reverse)):
            axes = [_axis_of(state, value) for state, value in zip(states, user.inputs, strict=True)]
            axis = attribute(user, "axis")
            if any(found != axis for found in axes) or axis not in (0, 1):
                continue
            whole = y
            if flipped:
                ends = [build.const([value], name="flip") for value in (-1, -(2**63))]
                axes_0, by = build.const([0], name="axes"), build.const([-1], name="flip")
                whole = build.op("Slice", whole, *ends, axes_0, by)
            whole = whole if axis == 0 else build.op("Transpose", whole, perm=[1, 0, 2])
            move_readers(node, user.outputs[0], whole)
            inputs = list(user.inputs)
            user.graph.remove(user, safe=True)  # type: ignore[union-attr]
            for value in inputs:
                maker = None if value is None else value.producer()
                if maker is not None and maker.op_type == "Unsqueeze" and not maker.outputs[0].uses():
                    maker.graph.remove(maker, safe=True)  # type: ignore[union-attr]
            break


def _with_axis(state: ir.Value) -> list[tuple[ir.Value, int]]:
    """The state, and the state with one more axis: what may be stacked, and along which axis."""
    found = [(state, 0)]
    for user in state.consumers():
        axes = constant(user.inputs[1]) if user.op_type == "Unsqueeze" else None
        if axes is not None and axes.size == 1:
            found.append((user.outputs[0], int(axes.reshape(-1)[0])))
    return found


def _axis_of(state: ir.Value, value: ir.Value | None) -> int | None:
    return next((axis for found, axis in _with_axis(state) if found is value), None)
