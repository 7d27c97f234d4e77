"""Values of an unrolled graph that are one computation at successive steps.

Needs: a straightened graph. Guarantees: a term that is exactly the family asked for, or a NotRollable that says why. It
never guesses: members must be the same operator with the same attributes, down to slices of one tensor at steps
0, 1, 2, … and to states that are what the same family was one step before.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np
import onnx_ir as ir

from seqport.exporters.passes.builder import constant
from seqport.exporters.rolling.straighten import cut_of
from seqport.exporters.rolling.terms import (
    Applied,
    Before,
    Counted,
    Family,
    Flipped,
    NotRollable,
    Same,
    Taken,
    Term,
    Window,
)

# Attributes that may differ between steps of one computation.
_NAMES = frozenset({"layer"})


class Unifier:
    """Terms of one graph's families, each found once.

    Args:
        graph: straightened; not changed.
    """

    def __init__(self, graph: ir.Graph) -> None:
        self._place = {node: i for i, node in enumerate(graph)}
        self._terms: dict[Family, Term] = {}
        self._holding: dict[ir.Value, list[tuple[Applied, int]]] = {}
        self._log: list[ir.Value] = []

    @property
    def terms(self) -> list[Term]:
        """Every term found so far."""
        return list(self._terms.values())

    def term(self, family: Sequence[ir.Value | None]) -> Term:
        """What the members are.

        Raises:
            NotRollable: they are not one computation at successive steps.
        """
        key = tuple(family)
        if key not in self._terms:
            self._terms[key] = self._attempt(self._find, key)
        return self._terms[key]

    def _attempt(self, find: Callable[[Family], Term], family: Family) -> Term:
        """A search, forgotten where it fails: what was found on the way rests on what was not."""
        terms, found = dict(self._terms), len(self._log)
        try:
            return find(family)
        except NotRollable:
            self._terms = terms
            for value in self._log[found:]:
                self._holding[value].pop()
            del self._log[found:]
            raise

    def _find(self, family: Family) -> Term:
        real = [value for value in family if value is not None]
        if len(real) < len(family) - 1 or not real:
            raise NotRollable("an input is missing at some steps")
        if len(set(real)) == 1:
            return Same(family, real[0])
        found = _numbers(family) or _taken(family) or self._known(family)
        if found is not None:
            return found
        if self._position(real[0]) > self._position(real[-1]) and family[-1] is not None:
            return Flipped(family, self.term(family[::-1]))
        try:
            return self._attempt(self._applied, family)
        except NotRollable as reason:
            if family[-1] is None or family[0] is None or len(family) < 3:
                raise
            try:  # the first may be the state before the loop; then the last may never have been traced
                after = self._known(family[1:]) or self.term((*family[1:], None))
            except NotRollable:
                raise reason from None
            return Before(family, family[0], after)

    def _position(self, value: ir.Value) -> int:
        node = value.producer()
        return -1 if node is None else self._place.get(node, -1)

    def _known(self, family: Family) -> Term | None:
        """The family as a part of one that is known, or as what that was a step before."""
        for way in (family, family[::-1]):
            at = 1 if way[1] is not None else 0
            pivot = way[at]
            for term, place in self._holding.get(pivot, ()) if pivot is not None else ():
                found = _placed(way, term, place - at)
                if found is not None and found.count == term.count and not self._complete(term, way, place - at):
                    continue
                if found is not None:
                    return found if way is family else Flipped(family, found)
        return None

    def _complete(self, term: Applied, family: Family, offset: int) -> bool:
        """Give a term its last member, where the family has it and the term has not; whether they agree."""
        last = family[-1]
        if offset or term.family[-1] is not None or last is None:
            return True
        node = last.producer()
        if node is None or not _alike(node, term.node) or node.outputs[term.index] is not last:
            return False
        before, term.family = term.family, (*term.family[:-1], last)
        if all(self._fits(part, value) for part, value in zip(term.operands, node.inputs, strict=True)):
            self._holding.setdefault(last, []).append((term, term.count - 1))
            self._log.append(last)
            return True
        term.family = before
        return False

    def _fits(self, part: Term | None, value: ir.Value | None) -> bool:
        """Whether a value is a term's member at the last step."""
        if part is None or value is None:
            return part is value
        if part.family[-1] is value or (isinstance(part, Same) and part.value is value):
            return True
        if isinstance(part, Before):
            return part.after.family[part.count - 2] is value
        if isinstance(part, Applied) and part.family[-1] is None:
            return self._complete(part, (*part.family[:-1], value), 0)
        if part.family[-1] is not None and not isinstance(part, (Same, Counted)):
            return False
        found = (*part.family[:-1], value)
        again = _numbers(found) or _taken(found)
        return again is not None and type(again) is type(part)

    def _applied(self, family: Family) -> Term:
        nodes = [None if value is None else value.producer() for value in family]
        real = [node for node in nodes if node is not None]
        first, value = (real or [None])[0], next(value for value in family if value is not None)
        if first is None or len(real) < len([v for v in family if v is not None]):
            raise NotRollable(f"{value.name} and its kin are not one computation at each step")
        index = list(first.outputs).index(value)
        for node, member in zip(nodes, family, strict=True):
            if node is not None and (not _alike(node, first) or node.outputs[index] is not member):
                raise NotRollable(f"{value.name} and its kin are not one computation at each step")
        term = Applied(family, real[min(1, len(real) - 1)], index)
        self._terms[family] = term
        for place, member in enumerate(family):
            if member is not None:
                self._holding.setdefault(member, []).append((term, place))
                self._log.append(member)
        term.operands = [
            self._operand([None if n is None else n.inputs[i] for n in nodes], nodes) for i in range(len(first.inputs))
        ]
        return term

    def _operand(self, values: list[ir.Value | None], nodes: list[ir.Node | None]) -> Term | None:
        if all(value is None for value, node in zip(values, nodes, strict=True) if node is not None):
            return None
        return self.term(values)


def _placed(family: Family, term: Applied, offset: int) -> Term | None:
    """The family where it stands in a known one from `offset` on; from -1 on, its first member is a state's first."""
    count, size = len(family), term.count
    first = max(0, -offset)
    if first > 1 or offset + count > size:
        return None
    pairs = [(family[i], term.family[i + offset]) for i in range(first, count)]
    if any(one is not other for one, other in pairs if one is not None and other is not None):
        return None
    whole = Window(term.family[offset + first : offset + count], term, offset + first, size - offset - count)
    if not first:
        return term if whole.count == size else whole
    if family[0] is None:
        return None
    return Before(family, family[0], term if offset + count == size - 1 else whole)


def _alike(one: ir.Node, other: ir.Node) -> bool:
    if (one.op_type, one.domain, len(one.outputs), len(one.inputs)) != (
        other.op_type,
        other.domain,
        len(other.outputs),
        len(other.inputs),
    ):
        return False
    if one is other:
        return True
    values = [{k: v.value for k, v in node.attributes.items() if k not in _NAMES} for node in (one, other)]
    if values[0].keys() != values[1].keys():
        return False
    return all(_equal(value, values[1][name]) for name, value in values[0].items())


def _equal(one: object, other: object) -> bool:
    if isinstance(one, ir.TensorProtocol) and isinstance(other, ir.TensorProtocol):
        return one.shape == other.shape and bool((one.numpy() == other.numpy()).all())
    return bool(one == other)


# Of numbers as Python counts them.
_ROUNDING = 1e-14


def _numbers(family: Family) -> Term | None:
    """A constant, or a number that counts."""
    arrays = [constant(value) for value in family if value is not None]
    if any(array is None for array in arrays):
        return None
    first = arrays[0]
    assert first is not None
    if all(a is not None and a.shape == first.shape and a.dtype == first.dtype and (a == first).all() for a in arrays):
        return Same(family, next(value for value in family if value is not None))
    if any(array is None or array.size != 1 for array in arrays):
        return None
    numbers = [array.reshape(-1)[0].item() for array in arrays if array is not None]
    stride = numbers[1] - numbers[0]
    if isinstance(stride, bool):
        return None
    # By rounding alone: a sine of slowly growing angles is nearly a line.
    line = numbers[0] + stride * np.arange(len(numbers))
    if not np.allclose(numbers, line, rtol=_ROUNDING, atol=_ROUNDING * abs(stride)):
        return None
    return Counted(family, numbers[0], stride)


def _taken(family: Family) -> Term | None:
    """Steps of one sequence, forward or backward."""
    found = [None if value is None else _step(value) for value in family]
    real = [item for value, item in zip(family, found, strict=True) if value is not None]
    if any(item is None for item in real):
        return None
    sources, axes, steps, kept = zip(*[item for item in real if item is not None], strict=True)
    if len(set(sources)) > 1 or len(set(axes)) > 1 or len(set(kept)) > 1 or len(steps) < 2:
        return None
    stride = steps[1] - steps[0]
    if not stride or any(b - a != stride for a, b in itertools.pairwise(steps)):
        return None
    return Taken(family, sources[0], axes[0], steps[0], stride, kept[0])


def _step(value: ir.Value) -> tuple[ir.Value, int, int, bool] | None:
    """(source, axis, step, whether the axis stays) where the value is one step of a source."""
    node = value.producer()
    source = node.inputs[0] if node is not None and node.inputs else None
    if node is None or source is None or source.shape is None or constant(source) is not None:
        return None
    if node.op_type == "Gather":
        index = constant(node.inputs[1])
        axis = node.attributes.get_int("axis", 0) % max(source.shape.rank(), 1)
        if index is None or index.ndim > 0:
            return None
        at, size = int(index), source.shape[axis]
        if at < 0:
            return (source, axis, at + size, False) if isinstance(size, int) else None
        return source, axis, at, False
    if node.op_type == "Slice" and (cut := cut_of(node)) is not None and cut[2] == cut[1] + 1:
        return source, cut[0], cut[1], True
    return None
