"""What stands between recurrent layers in a graph: ops that give Y the layout of the next one, or the user's."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from onnx import NodeProto, helper

from seqport.runtime.rewriting.native import Native
from seqport.runtime.rewriting.view import View


@dataclass(frozen=True)
class Link:
    """The values that hold a layer's outputs, and the nodes between them.

    Attributes:
        joined: [T, B, D · H]; "" where the graph has no such value.
        batch_major: [B, T, D · H]; "" where the graph has no such value.
        between: the nodes that make the two.
    """

    joined: str
    batch_major: str
    between: tuple[NodeProto, ...]


def link_behind(view: View, native: Native) -> Link:
    """The link behind a layer."""
    y = native.output(0)
    joining = _joining(view, native, y) if y else ()
    if not joining:
        return Link("", "", ())
    joined = joining[-1].output[0]
    turned = view.only_reader(joined, "Transpose")
    if turned is not None and permutation(turned) != [1, 0, 2]:
        turned = None
    between = (*joining, *([turned] if turned is not None else []))
    return Link(joined, turned.output[0] if turned is not None else "", between)


def _joining(view: View, native: Native, y: str) -> tuple[NodeProto, ...]:
    """The nodes that make [T, B, D · H] of Y [T, D, B, H]: those that the exporters write, and their kin."""
    if native.num_directions == 1:
        squeeze = view.only_reader(y, "Squeeze")
        axes = None if squeeze is None or len(squeeze.input) < 2 else view.constant(squeeze.input[1])
        return (squeeze,) if squeeze is not None and axes is not None and axes.tolist() == [1] else ()
    by_row = view.only_reader(y, "Transpose")
    if by_row is None or permutation(by_row) != [0, 2, 1, 3]:
        return ()
    reshape = _reshape(view, by_row)
    if view.read_beside(by_row.output[0], reshape):
        return ()
    shape = view.constant(reshape[0].input[1]) if reshape else None
    width = native.num_directions * native.hidden
    return (by_row, *reshape) if shape is not None and _keeps_rows(shape, width) else ()


def _reshape(view: View, node: NodeProto) -> list[NodeProto]:
    found = view.only_reader(node.output[0], "Reshape")
    return [] if found is None else [found]


def _keeps_rows(shape: np.ndarray, width: int) -> bool:
    return shape.shape == (3,) and shape[:2].tolist() == [0, 0] and int(shape[2]) in (-1, width)


def permutation(node: NodeProto) -> list[int] | None:
    """Of a Transpose; None where it reverses the axes by default."""
    return next((list(helper.get_attribute_value(a)) for a in node.attribute if a.name == "perm"), None)
