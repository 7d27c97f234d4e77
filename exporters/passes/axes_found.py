"""Which axis holds the rows and which the steps: read off what the recurrent nodes get, else found by experiment.

Needs: an artifact on ONNX Runtime and the inputs of a probe. Guarantees: the batch axis is that of the lengths, else
that of the rows which the recurrent nodes compute apart, else one along which no row moves another's answers by a
bit; None where none of these is one axis. Names prove nothing, but an axis called "batch" that is none is no mistake
to answer with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir
import onnxruntime as ort

from seqport.exporters.passes.draws import is_per_row
from seqport.exporters.passes.experiments import Arrays, counting, cut, size_of
from seqport.exporters.passes.layers_seen import Layers
from seqport.exporters.signature import Input, axis_names
from seqport.runtime.artifact import TensorInfo


@dataclass
class Axes:
    """What was found.

    Attributes:
        batch: the name of the batch axis; None where it is fixed, or not known.
        steps: the name of the axis that the model runs along; None where it is fixed, or not known, or where there
            are several.
        nodes: recurrent node's name → the name of the axis that its steps follow from.
    """

    batch: str | None = None
    steps: str | None = None
    nodes: dict[str, str] = field(default_factory=dict)


def found_axes(
    layers: Layers,
    session: ort.InferenceSession,
    inputs: Sequence[Input],
    outputs: Sequence[TensorInfo],
    arrays: Arrays,
    counted: Mapping[str, str | int],
) -> Axes:
    """Find them.

    Args:
        layers: the recurrent nodes.
        session: the artifact.
        inputs: the declared inputs.
        outputs: what it gives.
        arrays: inputs of a probe, of which no step is masked; every row is as long as its axis.
        counted: lengths input → the axis that it counts the steps of.
    """
    steps, rows = _of_nodes(layers, inputs, arrays)
    batch = _batch(set(rows.values()), set(steps.values()), session, inputs, outputs, arrays, counted)
    names = axis_names(inputs)
    if batch != "batch" and "batch" in names and isinstance(batch, str):
        batch = None
    along = {axis for axis in counted.values() if isinstance(axis, str)} or set(steps.values()) - {batch}
    others = along or ({axis for axis in names if axis != batch} if batch else set())
    return Axes(batch, others.pop() if len(others) == 1 else None, steps)


def _batch(
    rows: set[str],
    steps: set[str],
    session: ort.InferenceSession,
    inputs: Sequence[Input],
    outputs: Sequence[TensorInfo],
    arrays: Arrays,
    counted: Mapping[str, str | int],
) -> str | None:
    given = {item.axes[0] for item in inputs if item.name in counted}
    if len(given) == 1:
        axis = given.pop()
        return axis if isinstance(axis, str) else None
    if len(apart := rows - steps) == 1:
        return apart.pop()
    for axis in axis_names(inputs):
        if axis not in steps and _moves_no_other(session, inputs, outputs, arrays, axis):
            return axis
    return None


def _of_nodes(layers: Layers, inputs: Sequence[Input], arrays: Arrays) -> tuple[dict[str, str], dict[str, str]]:
    """The axis that each node's steps follow from, and the axis that its rows are."""
    steps: dict[ir.Node, list[str]] = {node: [] for node in layers.nodes}
    rows: dict[ir.Node, list[str]] = {node: [] for node in layers.nodes}
    try:
        whole = layers.sizes(arrays)
    except Exception:  # inside a model that runs, something that does not run by itself
        return {}, {}
    for axis in axis_names(inputs):
        size = size_of(arrays, inputs, axis)
        bounded = [item.name for item in inputs if is_per_row(item) and item.axes[0] != axis]
        for fewer in {n for n in (size - 1, size // 2, size - 4) if n >= 1}:
            try:
                found = layers.sizes(counting(cut(arrays, inputs, axis, 0, fewer), fewer, bounded))
            except Exception:  # the model does not take so few
                continue
            for node, (before, rows_before) in whole.items():
                after, rows_after = found[node]
                if before != after:
                    steps[node].append(axis)
                if rows_before != rows_after:
                    rows[node].append(axis if rows_before == size else "")
            if whole != found:
                break
    return (
        {node.name or "": axes[0] for node, axes in steps.items() if len(axes) == 1},
        {node.name or "": axes[0] for node, axes in rows.items() if len(axes) == 1 and axes[0]},
    )


def _moves_no_other(
    session: ort.InferenceSession, inputs: Sequence[Input], outputs: Sequence[TensorInfo], arrays: Arrays, axis: str
) -> bool:
    """Whether other values in one row of an axis leave the answers of all others as they were, to the bit."""
    if any(info.axes.count(axis) != 1 for info in outputs) or any(item.axes.count(axis) > 1 for item in inputs):
        return False
    names = [info.name for info in outputs]
    size = size_of(arrays, inputs, axis)
    moved = False
    try:
        before = session.run(names, dict(arrays))
        for row in sorted({0, size // 2, size - 1}):
            after = session.run(names, _with_another_row(inputs, arrays, axis, row))
            for info, one, other in zip(outputs, before, after, strict=True):
                place = info.axes.index(axis)
                if not _same(*(np.delete(np.asarray(array), row, place) for array in (one, other))):
                    return False
                moved = moved or not _same(np.asarray(one), np.asarray(other))
    except Exception:  # it does not run on such values
        return False
    return moved


def _same(one: np.ndarray, other: np.ndarray) -> bool:
    return np.array_equal(one, other, equal_nan=one.dtype.kind == "f")


def _with_another_row(inputs: Sequence[Input], arrays: Arrays, axis: str, row: int) -> dict[str, np.ndarray]:
    """The inputs with other values in one row; whole numbers are some that the input holds elsewhere."""
    random = np.random.default_rng(row)
    found = dict(arrays)
    for item in inputs:
        if axis in item.axes:
            array = found[item.name] = arrays[item.name].copy()
            place = (slice(None),) * item.axes.index(axis) + (row,)
            values = array[place]
            if array.dtype.kind == "f":
                array[place] = random.normal(scale=3.0, size=np.shape(values))
            else:
                others, found_at = np.unique(array, return_inverse=True)
                array[place] = others[(found_at.reshape(array.shape)[place] + 1) % len(others)]
    return found
