"""An unrolled graph in its plainest form, so that like steps look alike.

Needs: a graph that a trace unrolled. Guarantees: the same values from fewer kinds of nodes: one step of a sequence is a
Gather with one number, or a Slice of one element; what was written step by step into a tensor is a Concat of the
steps; what was read back from it is the value that was written.
"""

from __future__ import annotations

import itertools

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common

from seqport.exporters.passes.builder import Builder, constant, replace

_FAR = 2**31 - 1
_SAME_ONCE = (
    common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
    common.DeduplicateInitializersPass(),
    common.CommonSubexpressionEliminationPass(),
)


def straighten(model: ir.Model) -> None:
    """Straighten the model in place."""
    _shapes(model)
    for node in list(model.graph):
        by = _plainer(node)
        if by is not None:
            replace(model.graph, node.outputs[0], by, before=node)
    common.RemoveUnusedNodesPass()(model)
    _join_writes(model.graph)
    _read_back(model.graph)
    for _ in range(2):  # what every step computes alike must be one value to be recognised as such
        for step in (common.RemoveUnusedNodesPass(), *_SAME_ONCE):
            step(model)
    _shapes(model)


def _shapes(model: ir.Model) -> None:
    """Ranks of what the translation left without."""
    common.ShapeInferencePass()(model)


def _plainer(node: ir.Node) -> ir.Value | None:
    """A value that is the node's own and simpler, or None."""
    source = node.inputs[0] if node.inputs else None
    if node.domain != "" or source is None or (len(node.outputs) > 1 and node.op_type != "Split"):
        return None
    if node.op_type == "Identity" and not node.outputs[0].is_graph_output():
        return source
    if node.op_type == "Slice" and takes_all(node):
        return source
    if node.op_type == "SequenceAt":
        return _element(node)
    if node.op_type == "ScatterND" and _writes_all(node):
        return node.inputs[2]
    if node.op_type == "Concat" and node.inputs.count(None) == 0:
        return _flattened(node)
    if node.op_type == "Split":
        _cut(node)
    if node.op_type == "Squeeze" and len(node.inputs) > 1:
        return _one_step(node)
    return None


def takes_all(node: ir.Node) -> bool:
    """Whether a Slice gives its whole source."""
    starts, ends = constant(node.inputs[1]), constant(node.inputs[2])
    steps = constant(node.inputs[4]) if len(node.inputs) > 4 else None
    if starts is None or ends is None or starts.any() or (steps is not None and (steps != 1).any()):
        return False
    axes, shape = constant(node.inputs[3]) if len(node.inputs) > 3 else None, node.inputs[0].shape  # type: ignore[union-attr]
    if (ends >= _FAR).all():
        return True
    if axes is None or shape is None:
        return False
    return all(
        isinstance(shape[int(axis)], int) and end >= shape[int(axis)] for axis, end in zip(axes, ends, strict=True)
    )


def _element(node: ir.Node) -> ir.Value | None:
    """One element of a sequence that was split, cut from the source itself."""
    whole, index = node.inputs[0].producer(), constant(node.inputs[1])  # type: ignore[union-attr]
    if whole is None or whole.op_type != "SplitToSequence" or index is None:
        return None
    source, size = whole.inputs[0], constant(whole.inputs[1]) if len(whole.inputs) > 1 else np.array(1)
    if source is None or size is None or size.ndim > 0:
        return None
    axis, at = whole.attributes.get_int("axis", 0), int(index) * int(size)
    build = Builder(node, node.name or "step")
    if len(whole.inputs) < 2 and not whole.attributes.get_int("keepdims", 1):
        return _typed(build.op("Gather", source, build.const(at), axis=axis), node)
    return _typed(_slice(build, source, axis, at, at + int(size)), node)


def _cut(node: ir.Node) -> None:
    """A Split of a sequence into single steps, as one Slice each."""
    source, sizes = node.inputs[0], constant(node.inputs[1]) if len(node.inputs) > 1 else None
    if source is None or source.shape is None or len(node.outputs) < 2:
        return
    axis = node.attributes.get_int("axis", 0)
    length = source.shape[axis]
    if sizes is None and isinstance(length, int) and length == len(node.outputs):
        sizes = np.ones(length, np.int64)
    if sizes is None or (sizes != 1).any():
        return
    build = Builder(node, node.name or "step")
    for at, output in enumerate(node.outputs):
        part = _slice(build, source, axis, at, at + 1)
        part.shape, part.type = output.shape, output.type
        replace(node.graph, output, part, before=node)  # type: ignore[arg-type]


def _slice(build: Builder, source: ir.Value, axis: int, start: int, end: int) -> ir.Value:
    rank = 0 if source.shape is None else source.shape.rank()
    axis = axis + rank if axis < 0 else axis
    return build.op("Slice", source, *(build.const([v], name="slice") for v in (start, end, axis, 1)))


def _typed(value: ir.Value, like: ir.Node) -> ir.Value:
    value.shape, value.type = like.outputs[0].shape, like.outputs[0].type
    return value


def _one_step(node: ir.Node) -> ir.Value | None:
    """A step that was cut with its axis kept and then lost that axis, as a Gather."""
    part, axes = node.inputs[0].producer(), constant(node.inputs[1])  # type: ignore[union-attr]
    if part is None or part.op_type != "Slice" or axes is None or axes.size != 1 or node.inputs[0].shape is None:  # type: ignore[union-attr]
        return None
    cut = cut_of(part)
    axis = int(axes.reshape(-1)[0]) % node.inputs[0].shape.rank()  # type: ignore[union-attr]
    if cut is None or cut[0] != axis or cut[2] != cut[1] + 1:
        return None
    build = Builder(node, node.name or "step")
    return _typed(build.op("Gather", part.inputs[0], build.const(cut[1]), axis=axis), node)


def cut_of(node: ir.Node) -> tuple[int, int, int] | None:
    """(axis, start, end) of a Slice of consecutive elements at known places."""
    arrays = [constant(value) for value in node.inputs[1:]]
    if len(arrays) < 3 or any(array is None or array.size != 1 for array in arrays):
        return None
    start, end, axis, *steps = (int(array.reshape(-1)[0]) for array in arrays if array is not None)
    source = node.inputs[0]
    if steps not in ([], [1]) or source is None or source.shape is None:
        return None
    axis %= source.shape.rank()
    length = source.shape[axis]
    if isinstance(length, int):
        start, end = (max(0, v + length) if v < 0 else min(v, length) for v in (start, end))
    return None if start < 0 or end < 0 else (axis, start, end)


def _writes_all(node: ir.Node) -> bool:
    """Whether a ScatterND writes every row of its target, as `out[:, t] = h` does with the rows before the step."""
    rows = node.inputs[1].producer()  # type: ignore[union-attr]
    while rows is not None and rows.op_type in ("Unsqueeze", "Slice", "Identity"):
        if rows.op_type == "Slice" and not takes_all(rows):
            return False
        rows = rows.inputs[0].producer()  # type: ignore[union-attr]
    if rows is None or rows.op_type != "Range" or node.attributes.get_string("reduction", "none") != "none":
        return False
    size = rows.inputs[1].producer()  # type: ignore[union-attr]
    first = constant(rows.inputs[0])
    if first is None or first != 0 or size is None or size.op_type != "Gather" or constant(size.inputs[1]) != 0:
        return False
    shape = size.inputs[0].producer()  # type: ignore[union-attr]
    return shape is not None and shape.op_type == "Shape" and shape.inputs[0] is node.inputs[0]


def _flattened(node: ir.Node) -> ir.Value | None:
    """A Concat of a Concat, as outputs that grow step by step make, as one."""
    axis = node.attributes.get_int("axis", 0)
    parts: list[ir.Value] = []
    for value in node.inputs:
        inner = value.producer()  # type: ignore[union-attr]
        same = inner is not None and inner.op_type == "Concat" and inner.attributes.get_int("axis", 0) == axis
        parts.extend(inner.inputs if same and len(value.uses()) == 1 else [value])  # type: ignore[union-attr, arg-type]
    full = [value for value in parts if not _is_empty(value, axis)]
    if full == list(node.inputs):
        return None
    return _typed(Builder(node, node.name or "join").op("Concat", *full, axis=axis), node)


def _is_empty(value: ir.Value, axis: int) -> bool:
    return value.shape is not None and value.shape[axis] == 0


def _join_writes(graph: ir.Graph) -> None:
    """Writes of one step after another into a tensor, as the steps joined."""
    for node in list(graph):
        if write_of(node) is None or any(write_of(use.node) is not None for use in node.outputs[0].uses()):
            continue
        axis, steps, base = _writes(node)
        size = None if base.shape is None else base.shape[axis]
        known = size if isinstance(size, int) else len(steps)
        if not steps or max(steps) >= known:
            continue
        build = Builder(node, node.name or "written")
        axes = build.const([axis], name="axes")
        parts = []
        for written, run in itertools.groupby(range(known), steps.__contains__):
            places = list(run)
            if written:
                parts += [build.op("Unsqueeze", steps[at], axes) for at in places]
            else:
                parts.append(_slice(build, base, axis, places[0], places[-1] + 1))
        if not isinstance(size, int):  # the first steps of an axis of any size
            parts.append(_slice(build, base, axis, len(steps), _FAR))
        joined = build.op("Concat", *parts, axis=axis)
        replace(graph, node.outputs[0], _typed(joined, node), before=node)


def _writes(last: ir.Node) -> tuple[int, dict[int, ir.Value], ir.Value]:
    """(axis, step → what was written there last, the tensor before any write) behind a write."""
    found: dict[int, ir.Value] = {}
    node, write = last, write_of(last)
    assert write is not None
    axis = write[0]
    while True:
        found.setdefault(write[1], write[2])
        base = node.inputs[0]
        assert base is not None
        before = base.producer()
        following = None if before is None else write_of(before)
        if before is None or following is None or following[0] != axis:
            return axis, found, base
        node, write = before, following


def write_of(node: ir.Node) -> tuple[int, int, ir.Value] | None:
    """(axis, step, value) where the node writes one step into a tensor."""
    if node.op_type != "ScatterElements" or node.attributes.get_string("reduction", "none") != "none":
        return None
    added, places = node.inputs[2].producer(), node.inputs[1].producer()  # type: ignore[union-attr]
    if added is None or places is None or added.op_type != "Unsqueeze" or places.op_type != "Expand":
        return None
    step, axes, shape = constant(places.inputs[0]), constant(added.inputs[1]), node.inputs[0].shape  # type: ignore[union-attr]
    if step is None or step.size != 1 or axes is None or axes.size != 1 or shape is None or added.inputs[0] is None:
        return None
    axis = node.attributes.get_int("axis", 0) % shape.rank()
    size, at = shape[axis], int(step.reshape(-1)[0])
    if int(axes.reshape(-1)[0]) % shape.rank() != axis or (at < 0 and not isinstance(size, int)):
        return None
    return axis, at + size if at < 0 else at, added.inputs[0]  # type: ignore[operator, return-value]


def _read_back(graph: ir.Graph) -> None:
    """One step of steps that were joined is that step."""
    for node in list(graph):
        source = node.inputs[0] if node.inputs else None
        whole = None if source is None else source.producer()
        if whole is None or source is None:
            continue
        index = constant(node.inputs[1]) if node.op_type == "Gather" else None
        if index is None or index.ndim > 0:
            continue
        if whole.op_type == "Concat":
            found = _joined_step(whole, node.attributes.get_int("axis", 0), int(index))
        else:
            found = _written_step(whole, node.attributes.get_int("axis", 0), int(index))
        if found is not None:
            replace(graph, node.outputs[0], found, before=node)


def _joined_step(whole: ir.Node, axis: int, at: int) -> ir.Value | None:
    parts = [None if value is None else value.producer() for value in whole.inputs]
    if whole.attributes.get_int("axis", 0) != axis or any(p is None or p.op_type != "Unsqueeze" for p in parts):
        return None
    axes = [constant(part.inputs[1]) for part in parts if part is not None]
    if not all(a is not None and a.reshape(-1).tolist() == [axis] for a in axes) or not -len(parts) <= at < len(parts):
        return None
    return parts[at].inputs[0]  # type: ignore[union-attr]


def _written_step(node: ir.Node, axis: int, at: int) -> ir.Value | None:
    """What was written there, where writes to other places may have followed."""
    while (write := write_of(node)) is not None and write[0] == axis and at >= 0:
        if write[1] == at:
            return write[2]
        before = node.inputs[0].producer()  # type: ignore[union-attr]
        if before is None:
            return None
        node = before
    return None
