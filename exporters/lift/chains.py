"""Find steps that were written out one after another, and which values of one step are those of the next.

Needs: a graph in topological order. Guarantees: a `Chain` for every constant matrix that multiplies a value, then a
value computed from that product, and so on: the states h (and c) before and after every step.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import onnx_ir as ir

from seqport.exporters.lift.errors import NotLiftedError
from seqport.exporters.lift.walk import Facts, skip

# Fewer steps than this show no pattern that could not be chance.
FEWEST = 3
# Ops that keep a row's elements, whatever they do to the axes before the last.
SAME_ROW = frozenset({"Identity", "Cast", "Unsqueeze", "Squeeze", "Reshape", "Expand", "Dropout"})


@dataclass
class Chain:
    """Steps written out.

    Attributes:
        products: the node that multiplies the state by the recurrent matrix, in every step.
        level: for every value the last step that it depends on; -1 or absent where it depends on none.
        h: the state before every step, and after the last one.
        c: the same for an LSTM's other state; empty for other cells.
    """

    products: list[ir.Node]
    level: dict[ir.Value, int]
    h: list[ir.Value] = field(default_factory=list)
    c: list[ir.Value] = field(default_factory=list)

    @property
    def count(self) -> int:
        """The number of steps."""
        return len(self.products)

    def of(self, value: ir.Value | None) -> int:
        """The value's level."""
        return -1 if value is None else self.level.get(value, -1)


def find_chains(graph: ir.Graph, facts: Facts) -> Iterator[Chain]:
    """Every chain, its states not looked for yet."""
    by_shape: dict[object, list[ir.Node]] = {}
    for node in graph:
        array = facts.of(node.inputs[1]) if node.op_type in ("MatMul", "Gemm") else None
        if array is not None and array.ndim == 2:
            by_shape.setdefault(array.shape, []).append(node)
    groups: dict[object, list[ir.Node]] = {}
    for nodes in by_shape.values():
        for node in nodes if len(nodes) >= FEWEST else ():
            groups.setdefault(_matrix(node, facts), []).append(node)
    for nodes in groups.values():
        if len(nodes) < FEWEST:
            continue
        level = _levels(graph, nodes, facts)
        if all(level.get(_left(node), -1) == step - 1 for step, node in enumerate(nodes)):
            yield Chain(nodes, level)


def find_states(chain: Chain, facts: Facts) -> None:
    """Fill in h and c.

    Raises:
        NotLiftedError: more is carried from step to step, or the steps differ.
    """
    last = chain.count - 1
    needed = _ancestors(_left(chain.products[last]))
    h = [_core(chain, _left(node), step) for step, node in enumerate(chain.products) if step]
    crossing = _crossing(chain, needed, 2) - {h[1]}
    if len(crossing) > 1:
        raise NotLiftedError("more than an LSTM's two states go from one step to the next")
    if not crossing:
        before = _core_before(chain)
        after = _image(chain, facts, 1, last, {h[0]: h[-1]}, {h[1]})
        chain.h = [before, *h, after[h[1]]]
        return
    second = crossing.pop()
    first = _crossing(chain, needed, 1) - {h[0]}
    if len(first) != 1:
        raise NotLiftedError("what goes from one step to the next differs between steps")
    c = [first.pop(), second]
    for step in range(2, chain.count):
        image = _image(chain, facts, 1, step, {h[0]: h[step - 1], c[0]: c[step - 1]}, {h[1], second})
        c.append(image[second])
        if step == last:
            h.append(image[h[1]])
    # Step 0 reads a c that no step wrote: it stands where c stands in step 1.
    free: dict[ir.Value, ir.Value] = {h[0]: _core_before(chain)}
    _image(chain, facts, 1, 0, free, {h[1], second}, unknown=c[0])
    chain.h, chain.c = [free[h[0]], *h], [free[c[0]], *c]


def _left(node: ir.Node) -> ir.Value:
    value = node.inputs[0]
    assert value is not None
    return value


def _matrix(node: ir.Node, facts: Facts) -> object:
    """A key of the constant on the right side of a product; None where it is computed."""
    array = facts.of(node.inputs[1]) if node.op_type in ("MatMul", "Gemm") else None
    return None if array is None else (array.shape, hash(array.tobytes()))


def _levels(graph: ir.Graph, nodes: list[ir.Node], facts: Facts) -> dict[ir.Value, int]:
    number = {node: step for step, node in enumerate(nodes)}
    # Gates that have a matrix each begin the step together; a head that reads the state begins none.
    lefts = {skip(_left(node), SAME_ROW): step for step, node in enumerate(nodes)}
    needed = [node for node in _ancestors(_left(nodes[-1])) if _begins(node, lefts)]
    matrices = {_matrix(node, facts) for node in needed} - {None}
    for node in graph:
        if _begins(node, lefts) and _matrix(node, facts) in matrices:
            number.setdefault(node, lefts[skip(_left(node), SAME_ROW)])
    level: dict[ir.Value, int] = {}
    for node in graph:
        found = max((level.get(value, -1) for value in node.inputs if value is not None), default=-1)
        found = max(found, number.get(node, -1))
        if found >= 0:
            level.update(dict.fromkeys(node.outputs, found))
    return level


def _begins(node: ir.Node, lefts: dict[ir.Value, int]) -> bool:
    """Whether a node multiplies a state that the chain multiplies too."""
    return node.op_type in ("MatMul", "Gemm") and skip(_left(node), SAME_ROW) in lefts


def _ancestors(value: ir.Value) -> set[ir.Node]:
    found: set[ir.Node] = set()
    stack = [value.producer()]
    while stack:
        node = stack.pop()
        if node is not None and node not in found:
            found.add(node)
            stack.extend(item.producer() for item in node.inputs if item is not None)
    return found


def _core(chain: Chain, value: ir.Value, step: int) -> ir.Value:
    """The state in the left side of a product: behind reshapes, and without the input that was joined to it."""
    while True:
        value = skip(value, SAME_ROW)
        node = value.producer()
        if node is None or node.op_type != "Concat" or chain.of(value) != step - 1:
            return value
        parts = [item for item in node.inputs if chain.of(item) == step - 1 and item is not None]
        if len(parts) != 1:
            return value
        value = parts[0]


def _core_before(chain: Chain) -> ir.Value:
    """The state before the first step: behind the same ops as in the second, where the state is known."""
    value, pattern = (_left(node) for node in chain.products[:2])
    while chain.of(pattern) == 0:
        node, other = value.producer(), pattern.producer()
        if node is None or other is None or node.op_type != other.op_type or other.op_type not in {*SAME_ROW, "Concat"}:
            break
        at = [i for i, item in enumerate(other.inputs) if chain.of(item) == 0]
        if len(at) != 1:
            break
        value, pattern = node.inputs[at[0]] or value, other.inputs[at[0]] or pattern
    return value


def _crossing(chain: Chain, needed: set[ir.Node], step: int) -> set[ir.Value]:
    """Values of the step before that this step or a later one computes with."""
    found: set[ir.Value] = set()
    for node in needed | {chain.products[-1]}:
        if chain.of(node.outputs[0]) < step:
            continue
        for value in node.inputs:
            if chain.of(value) == step - 1 and value is not None:
                found.add(_core(chain, value, step))
    return found


def _image(
    chain: Chain,
    facts: Facts,
    template: int,
    step: int,
    known: dict[ir.Value, ir.Value],
    wanted: set[ir.Value],
    unknown: ir.Value | None = None,
) -> dict[ir.Value, ir.Value]:
    """For every value of the template step that leads to the wanted ones, the same value of another step.

    Args:
        chain: the steps.
        facts: of the model.
        template: the step that is known.
        step: the other one.
        known: the states before each, template → step; filled with everything found.
        wanted: values after the template step.
        unknown: a state of the template whose counterpart is found by where it stands.

    Raises:
        NotLiftedError: the other step lacks a node.
    """
    for one, other in zip(chain.products[template].outputs, chain.products[step].outputs, strict=True):
        known[one] = other
    inside = set().union(*(_ancestors(value) for value in wanted))
    inside = [n for n in _in_order(chain, inside) if chain.of(n.outputs[0]) == template and n.outputs[0] not in known]
    for node in inside:
        candidates = (user for item in node.inputs if item in known for user in known[item].consumers())
        match = next((user for user in candidates if _same(node, user, known, facts, unknown)), None)
        if match is None:
            if any(output in wanted for output in node.outputs):
                raise NotLiftedError(f"step {step} is not like the others ({node.name})")
            continue
        known.update(zip(node.outputs, match.outputs, strict=True))
        if unknown is not None and unknown not in known and unknown in node.inputs:
            found = match.inputs[list(node.inputs).index(unknown)]
            assert found is not None
            known[unknown] = found
    return known


def _in_order(chain: Chain, nodes: set[ir.Node]) -> list[ir.Node]:
    graph = chain.products[0].graph
    assert graph is not None
    return [node for node in graph if node in nodes]


def _same(
    node: ir.Node, other: ir.Node, known: dict[ir.Value, ir.Value], facts: Facts, unknown: ir.Value | None
) -> bool:
    if node.op_type != other.op_type or len(node.inputs) != len(other.inputs):
        return False
    for one, two in zip(node.inputs, other.inputs, strict=True):
        if one in known and known[one] is not two:
            return False
        if one is not None and one not in known and one is not unknown and facts.of(one) is not None:
            array = facts.of(two)
            if array is None or not (array.shape == facts.of(one).shape and (array == facts.of(one)).all()):  # type: ignore[union-attr]
                return False
    return True
