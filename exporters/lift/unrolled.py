"""Steps written out one after another, back into one recurrent layer.

Needs: a graph in topological order. Guarantees: every chain of like steps is lifted or left with the reason. The file
goes on reading exactly the steps that it read: an exporter that unrolled a loop fixed their number for ever.
"""

from __future__ import annotations

from dataclasses import replace

import onnx_ir as ir

from seqport.exporters.lift.algebra import leaf
from seqport.exporters.lift.cells import Cell, single_state, two_states
from seqport.exporters.lift.chains import FEWEST, SAME_ROW, Chain, find_chains, find_states
from seqport.exporters.lift.cuts import Cuts
from seqport.exporters.lift.errors import NotLiftedError
from seqport.exporters.lift.evaluate import Evaluator
from seqport.exporters.lift.neutral import infer_shapes
from seqport.exporters.lift.proof import prove
from seqport.exporters.lift.report import LeftAlone, Lifted
from seqport.exporters.lift.rolling import Row, emit, read_after
from seqport.exporters.lift.steps import ONE, Affine, Slice
from seqport.exporters.lift.walk import Facts, attribute, has_graph, skip


class _Step:
    """One step, as the evaluator wants to see it."""

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        self.parts: dict[ir.Value, list[ir.Value]] = {}

    def resolve(self, value: ir.Value) -> ir.Value:
        return skip(value)

    def is_inner(self, value: ir.Value) -> bool:
        return self.facts.of(value) is None

    def slice_of(self, value: ir.Value) -> Slice | None:
        """Element number k of an axis of a sequence: by Gather, by Slice and Squeeze, by Split and Squeeze."""
        value = skip(value, SAME_ROW - {"Expand"})
        node = value.producer()
        if node is not None and node.op_type == "Split" and node.inputs[0] is not None:
            return self._part(node, list(node.outputs).index(value))
        if node is None or node.op_type not in ("Gather", "Slice") or node.inputs[0] is None:
            return None
        arrays = [self.facts.of(item) for item in node.inputs[1:]]
        if any(array is None or array.size != 1 for array in arrays):
            return None
        numbers = [int(array.reshape(-1)[0]) for array in arrays if array is not None]
        if node.op_type == "Gather":
            axis = attribute(node, "axis", 0)
        elif len(numbers) > 1 and numbers[1] == numbers[0] + 1:
            axis = numbers[2] if len(numbers) > 2 else 0
        else:
            return None
        shape = self.facts.shape(node.inputs[0])
        if shape is None or axis not in (0, 1) or len(shape) != 3 or numbers[0] < 0:
            return None
        return Slice(node.inputs[0], axis, Affine({ONE: numbers[0]}))

    def _part(self, node: ir.Node, number: int) -> Slice | None:
        """One output of a Split into single steps."""
        sequence, axis = node.inputs[0], attribute(node, "axis", 0)
        shape = None if sequence is None else self.facts.shape(sequence)
        sizes = self.facts.of(node.inputs[1]) if len(node.inputs) > 1 else None
        if sequence is None or shape is None or len(shape) != 3 or axis not in (0, 1):
            return None
        single = shape[axis] == len(node.outputs) if sizes is None else bool((sizes == 1).all())
        return Slice(sequence, axis, Affine({ONE: number})) if single else None


def lift_unrolled(model: ir.Model) -> tuple[list[Lifted], list[LeftAlone]]:
    """Lift every chain of the model, in place."""
    lifted: list[Lifted] = []
    left: dict[str, LeftAlone] = {}
    again = True
    while again:
        again, facts = False, Facts(model)
        for chain in find_chains(model.graph, facts):
            key = _key(chain)
            if key in left:
                continue
            try:
                lifted.append(_lift_one(model, facts, chain))
                again = True  # the graph is another one now
                break
            except NotLiftedError as error:
                left[key] = LeftAlone(chain.products[0].name or "", "unrolled steps", str(error))
    alive = {output.name for node in model.graph for output in node.outputs}
    return lifted, [item for key, item in left.items() if key in alive]


def steps_in_branches(graph: ir.Graph) -> list[LeftAlone]:
    """Steps written out as branches, as TF 1's static_rnn does with lengths: Ifs that multiply by the same matrix."""
    found: dict[ir.Value, list[ir.Node]] = {}
    for node in graph:
        if node.op_type != "If":
            continue
        inner = [item for attr in node.attributes.values() for item in attr.as_graph().all_nodes()]
        for weights in {item.inputs[1] for item in inner if item.op_type in ("MatMul", "Gemm")}:
            if weights is not None:
                found.setdefault(weights, []).append(node)
    many = {nodes[0]: len(nodes) for nodes in found.values() if len(nodes) >= FEWEST}
    reason = "stand in branches on the lengths, which no recurrent operator has: write them as tf.nn.dynamic_rnn"
    return [LeftAlone(node.name or "", "unrolled steps", f"its {n} steps {reason}") for node, n in many.items()]


def _key(chain: Chain) -> str:
    return chain.products[0].outputs[0].name or ""


def _lift_one(model: ir.Model, facts: Facts, chain: Chain) -> Lifted:
    if any(has_graph(node) for node in model.graph):
        raise NotLiftedError("the model holds a loop or branch that stays")
    row = _read(chain, facts)
    cuts = Cuts(facts)
    cuts.put_sequence(row.sequence, row.axis)
    for state in (chain.h[0], *chain.c[:1]):
        cuts.put_state(state, row.cell.size)
    key = _key(chain)

    def rewrite(part: ir.Model) -> None:
        known = Facts(part)
        same = next(item for item in find_chains(part.graph, known) if _key(item) == key)
        emit(part, _read(same, known), known)

    wanted = [value.name or "" for value in read_after(chain)]
    length = row.start + 1 if row.reverse else row.start + chain.count
    difference = prove(model, cuts, wanted, rewrite, trials=[(batch, length) for batch in (3, 1, 5)])
    lifted = emit(model, row, facts)
    infer_shapes(model)
    return replace(lifted, difference=difference)


def _read(chain: Chain, facts: Facts) -> Row:
    """The chain as one layer.

    Raises:
        NotLiftedError: its steps differ, or are no cell of ours.
    """
    find_states(chain, facts)
    size = facts.width(chain.h[1])
    if size is None:
        raise NotLiftedError(f"the size of its state {chain.h[1].name!r} is not known")
    cells: list[tuple[object, Cell]] = []
    parts: list[Slice] = []
    for step in reversed(range(chain.count)):
        key, cell, inputs = _step(chain, facts, step, size, cells[0] if cells else None)
        cells.append((key, cell))
        if cells[0][0] != key:
            raise NotLiftedError(f"step {step} computes something else than the last")
        found = [_Step(facts).slice_of(value) for value in inputs]
        if len(found) != 1 or found[0] is None:
            raise NotLiftedError("a step reads something that is not one step of a sequence")
        parts.insert(0, found[0])
    numbers = [part.index.constant for part in parts]
    forward = numbers == list(range(numbers[0], numbers[0] + chain.count))
    reverse = numbers == list(range(numbers[0], numbers[0] - chain.count, -1))
    if not (forward or reverse) or len({(part.sequence, part.axis) for part in parts}) != 1:
        raise NotLiftedError("its steps do not read one sequence in order")
    return Row(chain, cells[0][1], parts[0].sequence, parts[0].axis, numbers[0], reverse)


def _step(
    chain: Chain, facts: Facts, step: int, size: int, like: tuple[object, Cell] | None
) -> tuple[object, Cell, list[ir.Value]]:
    """What tells a step's cell from others, the cell, and the values that it reads."""
    states = {chain.h[step]: leaf("state 0", size)}
    dependent = {value for value in chain.level if chain.of(value) >= step}
    inputs: dict[str, ir.Value] = {}
    if not chain.c:
        evaluator = Evaluator(_Step(facts), states, dependent, inputs)  # type: ignore[arg-type]
        new = evaluator.expression(chain.h[step + 1])
        return new.key(), single_state(new, "state 0"), list(inputs.values())
    states[chain.c[step]] = leaf("state 1", size)
    evaluator = Evaluator(_Step(facts), states, dependent, inputs)  # type: ignore[arg-type]
    new_c = evaluator.expression(chain.c[step + 1])
    if chain.h[step] is chain.c[step] and like is not None:
        # Both begin as the same zeros, which the algebra cannot tell apart; the nodes were matched one by one.
        Evaluator(_Step(facts), states, dependent, inputs).expression(chain.h[step + 1])  # type: ignore[arg-type]
        return like[0], like[1], list(inputs.values())
    after = {**states, chain.c[step + 1]: leaf("new 1", size)}
    new_h = Evaluator(_Step(facts), after, dependent, inputs).expression(chain.h[step + 1])  # type: ignore[arg-type]
    cell = two_states(new_h, new_c, "state 0", "state 1", "new 1")
    return (new_h.key(), new_c.key()), cell, list(inputs.values())
