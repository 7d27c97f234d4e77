"""Loops over time that a module wrote itself, rolled back: a chain of cells becomes one neutral recurrent node.

Needs: a graph with neutral cells, unrolled at a traced number of steps that no other size of the graph equals.
Guarantees: every chain of cells is one neutral recurrent node over the whole time axis, what was computed per step is
computed over that axis, and the traced number of steps is gone from the graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import onnx_ir as ir
from onnx_ir.passes import common

from seqport.exporters.cell import WEIGHTS, C, H, X, is_cell
from seqport.exporters.errors import RefusedError
from seqport.exporters.passes.builder import Builder, constant, outputs_of, replace
from seqport.exporters.passes.gates import Gate, gate_behind
from seqport.exporters.passes.generalise import generalise
from seqport.exporters.passes.job import Job
from seqport.exporters.passes.steps import NotRollable, Steps, reversed_time
from seqport.exporters.recurrent import DOMAIN, OP_TYPE, RecurrentCall, num_states

_SAME_ONCE = (
    common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
    common.DeduplicateInitializersPass(),
    common.CommonSubexpressionEliminationPass(),
)
_REMEDY = "use nn.RNN, nn.GRU or nn.LSTM over the whole sequence instead of the cell in a loop"


def roll_cells(job: Job) -> None:
    """Roll every chain of cells in the model.

    Raises:
        RefusedError: a loop cannot be rolled back; unrolled, the file would hold for the traced length alone.
    """
    if not any(is_cell(node) for node in job.model.graph):
        return
    for step in _SAME_ONCE:  # what every step computes alike must be one value to be recognised as such
        step(job.model)
    cells = [node for node in job.model.graph if is_cell(node)]
    layer = RecurrentCall.from_node(cells[0]).layer
    try:
        _Roller(job.model.graph, cells).run()
        common.RemoveUnusedNodesPass()(job.model)
        if any(is_cell(node) for node in job.model.graph):
            raise NotRollable("a single step's value is used outside of the loop")
        generalise(job)
    except NotRollable as reason:
        raise RefusedError(layer, f"runs in a Python loop that cannot be rolled back: {reason}", _REMEDY) from reason


@dataclass(frozen=True)
class _Chain:
    """The same cell at steps 0, 1, 2, …, and the gate that holds its state at masked steps."""

    cells: tuple[ir.Node, ...]
    gates: tuple[tuple[Gate, ...], ...]  # for each state, one a step; empty where nothing is held


class _Roller:
    """Rolls the chains of one graph; values of single steps are replaced when every family has been stacked."""

    def __init__(self, graph: ir.Graph, cells: Sequence[ir.Node]) -> None:
        self._graph = graph
        self._chains = _chains(cells)
        self._scope = RecurrentCall.from_node(cells[0]).layer
        self._at = cells[0]
        self._steps = Steps(self._builder)
        self._ends: list[tuple[ir.Value, ir.Value]] = []

    def run(self) -> None:
        for chain in self._chains:
            self._roll(chain)
        for node in list(self._graph):
            if node.op_type == "Concat" and len(node.inputs) == len(self._chains[0].cells):
                self._join(node)
        for step, end in self._ends:
            replace(self._graph, step, end, before=self._at)
        self._graph.sort()

    def _builder(self) -> Builder:
        return Builder(self._at, self._scope)

    def _roll(self, chain: _Chain) -> None:
        first, self._at = chain.cells[0], chain.cells[-1]
        call = RecurrentCall.from_node(first)
        x = self._steps.stacked([cell.inputs[X] for cell in chain.cells])
        mask = self._mask(chain)
        build = self._builder()
        axis = build.const([0], name="axis")
        states = [None if v is None else build.op("Unsqueeze", v, axis) for v in (first.inputs[H], first.inputs[C])]
        node = ir.node(
            OP_TYPE,
            [x, None, mask, *states, *first.inputs[WEIGHTS:]],
            {**call.attributes(), "padded_outputs": "zero" if mask is None else "hold"},
            domain=DOMAIN,
            num_outputs=3,
            name=f"{call.layer}/rolled",
        )
        self._graph.insert_before(self._at, node)
        y, *finals = node.outputs
        y.shape = None if x.shape is None else ir.Shape([None, None, call.num_hidden_units])
        self._steps.known[tuple(cell.outputs[0] for cell in chain.cells)] = y
        for index in range(num_states(call.cell)):
            end = build.op("Squeeze", finals[index], axis)
            if chain.gates:
                held = tuple(gate.value for gate in chain.gates[index])
                if len(held) < len(chain.cells):
                    continue  # nobody reads the last of them
                if index == 0:
                    self._steps.known[held] = y
                self._ends.append((held[-1], end))
            else:
                self._ends.append((chain.cells[-1].outputs[index], end))

    def _mask(self, chain: _Chain) -> ir.Value | None:
        """Bool [batch, seq]: true where the state moves."""
        if not chain.gates:
            return None
        gates = max(chain.gates, key=len)
        kept = tuple(gate.condition for gate in gates)
        stacked = self._steps.stacked(kept)  # [seq, batch, 1] or [seq, batch]
        build = self._builder()
        if kept[0].shape is not None and kept[0].shape.rank() == 2:
            stacked = build.op("Squeeze", stacked, build.const([2], name="axes"))
        stacked = build.op("Cast", stacked, to=ir.DataType.BOOL)
        if gates[0].inverted:
            stacked = build.op("Not", stacked)
        return build.op("Transpose", stacked, perm=[1, 0])

    def _join(self, node: ir.Node) -> None:
        """A Concat of one value a step, each with a new axis, is the stacked family with time at that axis."""
        output = node.outputs[0]
        parts = [None if value is None else value.producer() for value in node.inputs]
        if output.shape is None or any(part is None or part.op_type != "Unsqueeze" for part in parts):
            return
        rank = output.shape.rank()
        axis = node.attributes.get_int("axis", 0) % rank
        added = [constant(part.inputs[1]) for part in parts if part is not None]
        if any(axes is None or axes.reshape(-1).tolist() not in ([axis], [axis - rank]) for axes in added):
            return
        members = [part.inputs[0] for part in parts if part is not None]
        self._at = node
        stacked = self._stacked_either_way(members)
        order = [*range(1, axis + 1), 0, *range(axis + 1, rank)]
        whole = stacked if axis == 0 else self._builder().op("Transpose", stacked, perm=order)
        replace(self._graph, output, whole, before=node)

    def _stacked_either_way(self, members: Sequence[ir.Value | None]) -> ir.Value:
        """The members stacked; a loop that ran backwards may have put its outputs in either order."""
        try:
            return self._steps.stacked(members)
        except NotRollable:
            return reversed_time(self._builder(), self._steps.stacked(members[::-1]))


def _chains(cells: Sequence[ir.Node]) -> list[_Chain]:
    """The cells by layer, each in the order of its steps."""
    followers: dict[ir.Node, tuple[ir.Node, list[Gate | None]]] = {}
    heads: list[ir.Node] = []
    for cell in cells:
        found = _previous(cell)
        if found is None:
            heads.append(cell)
        else:
            followers[found[0]] = (cell, found[1])
    chains = []
    for head in heads:
        order, gates = [head], []
        while order[-1] in followers:
            following, held = followers[order[-1]]
            order.append(following)
            gates.append(held)
        chains.append(_chain(order, gates))
    if len({len(chain.cells) for chain in chains}) > 1:
        raise NotRollable("its loops run over different numbers of steps")
    return chains


def _chain(order: list[ir.Node], held: list[list[Gate | None]]) -> _Chain:
    """The chain, with the gate of its last step found among the users of the last outputs."""
    if not held or held[0][0] is None:
        return _Chain(tuple(order), ())
    gates: list[tuple[Gate, ...]] = []
    for index in range(len(held[0])):
        of_state = [gate for step in held if (gate := step[index]) is not None]
        last = order[-1].outputs[index]
        final = _final_gate(last, order[-1].inputs[H + index])
        if len(of_state) < len(held) or (final is None and last.uses()):
            raise NotRollable("its state is held at some steps and not at others")
        gates.append((*of_state, *([] if final is None else [final])))
    if max(map(len, gates)) < len(order):
        raise NotRollable("nobody reads its last state")
    pairs = zip(gates[0], gates[-1], strict=False)
    if any(one.condition is not two.condition or one.inverted != two.inverted for one, two in pairs):
        raise NotRollable("its two states are held by different masks")
    return _Chain(tuple(order), tuple(gates))


def _previous(cell: ir.Node) -> tuple[ir.Node, list[Gate | None]] | None:
    """The same cell one step before, and for each state the gate between them; None for a first step."""
    states = [value for value in (cell.inputs[H], cell.inputs[C]) if value is not None]
    found: list[tuple[ir.Node, Gate | None]] = []
    for index, value in enumerate(states):
        node = value.producer()
        if node is not None and is_cell(node) and _same_layer(node, cell) and value is node.outputs[index]:
            found.append((node, None))
            continue
        gate = gate_behind(value, lambda v, i=index: _is_output(v, cell, i))
        if gate is not None:
            origin = gate.fresh.producer()
            assert origin is not None
            found.append((origin, gate))
    if not found:
        return None
    if len(found) != len(states) or len({node for node, _ in found}) > 1:
        raise NotRollable("its states come from different steps")
    return found[0][0], [gate for _, gate in found]


def _final_gate(output: ir.Value, held: ir.Value | None) -> Gate | None:
    """The gate over the last step's output."""
    seen = [output]
    for _ in range(3):  # a gate is at most three operators behind the cell
        seen = [out for value in seen for use in value.uses() for out in outputs_of(use.node.outputs[0])]
        for value in seen:
            gate = gate_behind(value, lambda v: v is output)
            if gate is not None and gate.held is held:
                return gate
    return None


def _is_output(value: ir.Value, like: ir.Node, index: int) -> bool:
    node = value.producer()
    return node is not None and is_cell(node) and _same_layer(node, like) and value is node.outputs[index]


def _same_layer(one: ir.Node, other: ir.Node) -> bool:
    return one is not other and list(one.inputs[WEIGHTS:]) == list(other.inputs[WEIGHTS:])
