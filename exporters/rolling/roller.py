"""Find the loops of an unrolled graph, and put what computes all steps at once in their place.

Needs: a straightened graph. Guarantees: whoever read a step, the last one, or all steps joined, reads the same of the
new values; `require_rolled` refuses where a loop is left.
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from seqport.exporters.cell import is_cell
from seqport.exporters.lift.walk import Facts
from seqport.exporters.passes.builder import Builder, constant, replace
from seqport.exporters.passes.generalise import size_of
from seqport.exporters.passes.job import Job
from seqport.exporters.recurrent import RecurrentCall
from seqport.exporters.rolling.candidates import FEWEST, chains, joins, outlets
from seqport.exporters.rolling.components import components
from seqport.exporters.rolling.names import name_of
from seqport.exporters.rolling.recurrence import Solver
from seqport.exporters.rolling.stacks import ENDS, Stacks, rank_of
from seqport.exporters.rolling.terms import Applied, NotRollable, Term
from seqport.exporters.rolling.unify import Unifier


class Roller:
    """Rolls the loops of one job's graph."""

    def __init__(self, job: Job) -> None:
        self._job, self._graph = job, job.model.graph
        self._sizes = sorted(
            {
                steps
                for axis, size in job.capture.fixed_axes.items()
                for steps in _counts(size, halves=axis not in job.capture.told)
                if steps >= FEWEST
            },
            reverse=True,
        )
        told = {axis: size for axis, size in job.capture.fixed_axes.items() if axis in job.capture.told}
        self._whole = set(job.capture.fixed_axes.values()) - set(told.values())
        self._told = {steps: size for size in told.values() for steps in _counts(size, halves=False)}
        self._unifier = Unifier(self._graph)
        self._reasons: list[tuple[str, NotRollable]] = []
        self._end = list(self._graph)[-1]
        self._counts: dict[int, ir.Value | None] = {}

    def run(self) -> bool:
        """Roll, and say whether there was a loop.

        Raises:
            NotRollable: a loop's values are read in a way that has no form over all steps.
        """
        joined = self._joins()
        self._chains()
        circles = components([term for term in self._unifier.terms if isinstance(term, Applied)])
        solver = Solver(self._job, Facts(self._job.model))
        stacks = Stacks(self._builder(), circles, self._seq, solver, self._whole, self._told)
        wholes = {node: self._join(stacks, node, spans) for node, spans in joined.items()}
        while self._steps_read(stacks, set(joined)):
            pass  # what was emitted may read single steps of another loop
        for node, whole in wholes.items():  # or all steps of it, joined
            node.outputs[0].replace_all_uses_with(whole)
        self._graph.sort()
        return bool(self._loops())

    def require_rolled(self) -> None:
        """Raises NotRollable where a loop over a dynamic axis is left."""
        for nodes in chains(self._graph, ()):
            if len(nodes) not in self._sizes or not (is_cell(nodes[0]) or nodes[0].op_type in ("MatMul", "Gemm")):
                continue
            layer = RecurrentCall.from_node(nodes[0]).layer if is_cell(nodes[0]) else name_of(nodes)
            reason = next((why for name, why in self._reasons if name == layer), None)
            raise NotRollable(
                str(reason or "its steps are not alike"), layer=layer, remedy=reason.remedy if reason else ""
            )

    def _builder(self) -> Builder:
        return Builder(self._end, "loop")

    def _joins(self) -> dict[ir.Node, list[tuple[int, int, Term]]]:
        """Concat → its runs of like inputs, as terms."""
        found: dict[ir.Node, list[tuple[int, int, Term]]] = {}
        for node, start, end in joins(self._graph):
            if end - start not in self._sizes:
                continue
            try:
                term = self._unifier.term(node.inputs[start:end])
            except NotRollable as reason:
                self._reasons.append(("", reason))
                continue
            found.setdefault(node, []).append((start, end, term))
        return found

    def _chains(self) -> None:
        place = {node: i for i, node in enumerate(self._graph)}
        longest = [size - less for size in self._job.capture.fixed_axes.values() for less in range(ENDS + 1)]
        for nodes in chains(self._graph, longest):
            if len(nodes) not in self._sizes:
                continue
            layer = RecurrentCall.from_node(nodes[0]).layer if is_cell(nodes[0]) else name_of(nodes)
            for family in outlets(nodes, place):
                try:
                    self._unifier.term(family)
                except NotRollable as reason:
                    self._reasons.append((layer, reason))

    def _seq(self, count: int) -> ir.Value | None:
        """The number of steps of a loop that was traced at `count`, [1]."""
        if count not in self._counts:
            build = self._builder()
            self._counts[count] = None
            for axis, size in self._job.capture.fixed_axes.items():
                whole = size_of(self._job, axis, build) if 0 <= size - count <= ENDS else None
                if whole is not None:
                    less = build.op("Sub", whole, build.const([size - count])) if size > count else whole
                    self._counts[count] = less if size == count else build.op("Max", less, build.const([0]))
                    break
        return self._counts[count]

    def _steps_read(self, stacks: Stacks, joined: set[ir.Node]) -> bool:
        """Give whoever reads single steps from outside of a loop those of the new values; False where nobody does."""
        terms = self._loops()
        inside = {value.producer() for term in terms for value in term.family if value is not None} | joined
        done: set[ir.Value] = set()
        for term in terms:
            for value, at in _ends(term):
                if value in done or not (
                    value.is_graph_output() or any(use.node not in inside for use in value.uses())
                ):
                    continue
                done.add(value)
                by = stacks.final(term) if at == -1 else stacks.step(term, at)
                by.shape, by.type = value.shape, value.type
                self._give(value, by, inside)
        return bool(done)

    def _loops(self) -> list[Applied]:
        return [term for term in self._unifier.terms if isinstance(term, Applied) and term.count in self._sizes]

    def _give(self, value: ir.Value, by: ir.Value, inside: set[ir.Node | None]) -> None:
        for use in list(value.uses()):
            if use.node not in inside:
                use.node.replace_input_with(use.idx, by)
        if value.is_graph_output():
            uses = list(value.uses())
            replace(self._graph, value, by, before=self._end)
            for use in uses:  # the steps themselves go on reading each other
                use.node.replace_input_with(use.idx, value)

    def _join(self, stacks: Stacks, node: ir.Node, spans: list[tuple[int, int, Term]]) -> ir.Value:
        """A Concat with what all steps give at once in the place of each run of steps."""
        axis, inputs = node.attributes.get_int("axis", 0), list(node.inputs)
        for start, end, term in reversed(spans):
            inputs[start:end] = [_side_by_side(stacks, term, axis)]
        build = stacks.build
        whole = inputs[0] if len(inputs) == 1 else build.op("Concat", *inputs, axis=axis)
        assert whole is not None
        whole.type = node.outputs[0].type
        replace(self._graph, node.outputs[0], whole, before=self._end)
        return whole


def _counts(size: int, *, halves: bool) -> Iterator[int]:
    """Numbers of steps that a loop over an axis may take: all but some, or every second one."""
    yield from (size - less for less in range(ENDS + 1))
    yield from (size // 2, (size + 1) // 2) if halves else ()


def _ends(term: Applied) -> Iterator[tuple[ir.Value, int]]:
    """Every member, and at which step from the nearer end it stands."""
    for at, value in enumerate(term.family):
        if value is not None:
            yield value, at if at < term.count // 2 else at - term.count


def _side_by_side(stacks: Stacks, term: Term, axis: int) -> ir.Value:
    """A term's steps joined along an axis that each of them has."""
    build, rank = stacks.build, rank_of(term)
    if rank is None:
        raise NotRollable(f"the rank of {term.example().name} is not known")
    axis %= rank
    inner = _without(term, axis)
    if inner is not None:  # each has a new axis of size 1 there: that is where the steps go
        stacked = stacks.stacked(inner)
        order = [*range(1, axis + 1), 0, *range(axis + 1, rank)]
        return stacked if axis == 0 else build.op("Transpose", stacked, perm=order)
    stacked = stacks.stacked(term)
    order = [*range(1, axis + 1), 0, *range(axis + 1, rank + 1)]
    moved = stacked if axis == 0 else build.op("Transpose", stacked, perm=order)
    shape = build.op("Shape", stacked)
    sizes = [
        build.op("Slice", shape, *(build.const([v], name="slice") for v in ends), build.const([0], name="axes"))
        for ends in ((1, 1 + axis), (2 + axis, 2 + rank))
    ]
    return build.op("Reshape", moved, build.op("Concat", sizes[0], build.const([-1]), sizes[1], axis=0))


def _without(term: Term, axis: int) -> Term | None:
    """The term before it got an axis, where that is how it got it."""
    if not isinstance(term, Applied) or term.node.op_type != "Unsqueeze" or term.operands[0] is None:
        return None
    axes, rank = constant(term.node.inputs[1]), rank_of(term)
    if axes is None or rank is None or [int(a) % rank for a in axes.reshape(-1)] != [axis]:
        return None
    return term.operands[0]
