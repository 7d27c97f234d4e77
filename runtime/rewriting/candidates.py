"""Which layers of a graph can be packed, and which of them share a Scan."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from seqport.runtime.rewriting.emit import Emitter
from seqport.runtime.rewriting.forms import Form
from seqport.runtime.rewriting.lengths import first_alike
from seqport.runtime.rewriting.links import Link, link_behind, permutation
from seqport.runtime.rewriting.native import Native
from seqport.runtime.rewriting.view import View

_TURNED = [1, 0, 2]  # time first to batch first, and back

# A layer, which of its directions, its weights, where they go → the form of that direction
FormOf = Callable[[Native, int, Sequence[np.ndarray], Emitter], Form | None]


@dataclass(frozen=True)
class Candidate:
    """A layer that can be packed.

    Attributes:
        native: its node.
        forms: one a direction.
        input_dim: of what it takes.
        link: what stands behind it.
        lengths: the first of all names that hold the same.
    """

    native: Native
    forms: tuple[Form, ...]
    input_dim: int
    link: Link
    lengths: str


def candidates_of(view: View, emit: Emitter, form_of: FormOf) -> list[Candidate]:
    """Every layer that can be packed, in the order of the graph."""
    natives = [native for node in view.graph.node if (native := Native.of(node)) and native.lengths]
    lengths = first_alike(view, [native.lengths for native in natives])
    found = [_candidate(view, emit, native, lengths[native.lengths], form_of) for native in natives]
    return [one for one in found if one is not None]


def _candidate(view: View, emit: Emitter, native: Native, lengths: str, form_of: FormOf) -> Candidate | None:
    weights = native.weights(view.constant)
    if weights is None:
        return None
    forms = [form_of(native, direction, weights, emit) for direction in range(native.num_directions)]
    if any(form is None for form in forms):
        return None
    link = link_behind(view, native)
    return Candidate(native, tuple(forms), weights[0].shape[2], link, lengths)  # type: ignore[arg-type]


def stacks_of(view: View, candidates: Sequence[Candidate]) -> list[list[Candidate]]:
    """Layers of one direction that feed each other share a Scan; every other one has its own."""
    followers = {fed_by(view, one.native): one for one in reversed(candidates)}
    placed: set[int] = set()
    stacks = []
    for first in candidates:
        stack = [first]
        while id(first) not in placed:
            last = stack[-1]
            values = (last.link.joined, last.link.batch_major)
            after = next((followers[value] for value in values if value and value in followers), None)
            if after is None or id(after) in placed or not _may_follow(view, stack, after):
                break
            stack.append(after)
        if id(first) not in placed:
            placed |= {id(one) for one in stack}
            stacks.append(stack)
    return stacks


def _may_follow(view: View, stack: Sequence[Candidate], after: Candidate) -> bool:
    last = stack[-1].native
    return (
        last.num_directions == 1
        and after.native.reversed == last.reversed
        and after.lengths == stack[-1].lengths
        and not view.depends([name for name in after.native.initial if name], [one.native.node for one in stack])
    )


def fed_by(view: View, native: Native) -> str:
    """The value that a layer takes: in front of the Transpose that puts time first, where there is one."""
    turned = view.producers.get(native.x)
    if turned is not None and turned.op_type == "Transpose" and permutation(turned) == _TURNED:
        return turned.input[0]
    return native.x
