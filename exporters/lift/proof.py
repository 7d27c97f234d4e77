"""Prove a lift: the loop and what replaces it, run side by side on random input.

Needs: a model and one of its loops. Guarantees: the largest difference over several shapes, lengths and masks, or a
NotLiftedError. Only the part of the model around the loop runs: it is cut where the loop's input, lengths, mask and
initial states come in, so that these can be drawn at random whatever stands before them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
from onnx_ir.passes import common

from seqport.exporters.lift.cuts import BATCH, SEQ, Cut
from seqport.exporters.lift.errors import NotLiftedError
from seqport.exporters.lift.lower import lower
from seqport.exporters.serial import session_of

# Sizes of batch and seq in each trial; the last has full lengths only. None without steps: some of ONNX Runtime's
# operators end the process there.
TRIALS = ((3, 5), (1, 1), (2, 9), (4, 2), (5, 7))
# Float32 against float32 over at most nine steps, relative to the largest value where that is above 1.
TOLERANCE = 2e-5
# Trials that must run in the loop itself before it counts as proven.
_ENOUGH = 3
# Lengths are drawn from the first to seq plus the second; where the model refuses such lengths, from the next.
_LENGTHS = ((0, 2), (1, 0))

_SAME_SHAPE = frozenset({"Identity", "Cast", "ReverseSequence"})


def prove(
    model: ir.Model,
    cuts: Mapping[str, Cut],
    wanted: Sequence[str],
    rewrite: Callable[[ir.Model], None],
    *,
    trials: Sequence[tuple[int, int]] = TRIALS,
    padded: bool = False,
) -> float:
    """The largest relative difference between a loop and its replacement.

    Args:
        model: whole, and not changed.
        cuts: by name, the values that random arrays take the place of.
        wanted: names of the values to compare.
        rewrite: lifts the same loop in another model that holds it, without proof.
        trials: sizes of batch and seq in each.
        padded: the replacement gives zeros after the steps that the loop runs.

    Raises:
        NotLiftedError: they differ, or the loop cannot be run on random input.
    """
    part = _extract(model, cuts, wanted)
    lifted = part.clone()
    rewrite(lifted)
    lower(lifted)
    lower(part)
    feeds = {value.name or "": cuts.get(value.name or "") or _guessed(value) for value in part.graph.inputs}
    names = [value.name or "" for value in part.graph.outputs]
    one, other = _session(part), _session(lifted)
    taken = {item.name for item in other.get_inputs()}
    worst, ran, reason = 0.0, 0, ""
    for number, (batch, seq) in enumerate(trials):
        arrays, expected = {}, None
        for low, high in _LENGTHS if number < len(trials) - 1 else ((0, 0),):
            arrays = _draw(feeds, batch, seq, number, (low, high))
            try:
                expected = one.run(names, arrays)
                break
            except Exception as error:  # the loop itself refuses these values, so they prove nothing
                reason = str(error).strip().splitlines()[0]
        if expected is None:
            continue
        found = other.run(names, {name: array for name, array in arrays.items() if name in taken})
        for one_array, other_array in zip(found, expected, strict=True):
            worst = max(worst, _difference(np.asarray(one_array), np.asarray(other_array), padded=padded))
        ran += 1
        if not worst <= TOLERANCE:
            raise NotLiftedError(f"its native form differs from it by {worst:.3g} at batch={batch}, seq={seq}")
    if ran < _ENOUGH:
        raise NotLiftedError(f"it could not be proven, because it does not run on random input: {reason}")
    return worst


def _extract(model: ir.Model, cuts: Mapping[str, Cut], wanted: Sequence[str]) -> ir.Model:
    """The part of the model from the cuts to the wanted values."""
    part = model.clone()
    values = {value.name: value for value in part.graph.inputs}
    values |= {output.name: output for node in part.graph for output in node.outputs}
    part.graph.outputs[:] = [values[name] for name in wanted]
    for node in part.graph:
        if node.op_type == "Shape" and node.inputs[0] is not None:  # sizes need no more than the cut's own
            node.replace_input_with(0, _same_size(node.inputs[0], cuts))
    for name, cut in cuts.items():
        value = values[name]
        if value.is_graph_input():
            value.shape = ir.Shape(cut.axes)
            continue
        replacement = ir.Value(name=name, type=ir.TensorType(cut.dtype), shape=ir.Shape(cut.axes))
        value.name = f"{name}/before_the_cut"
        value.replace_all_uses_with(replacement)
        part.graph.inputs.append(replacement)
    part = common.RemoveUnusedNodesPass()(part).model
    part.graph.inputs[:] = [value for value in part.graph.inputs if value.uses()]
    return part


def _same_size(value: ir.Value, cuts: Mapping[str, Cut]) -> ir.Value:
    """A cut, or else the earliest value, that surely has this one's sizes."""
    while (node := value.producer()) is not None and value.name not in cuts and node.op_type in _SAME_SHAPE:
        if node.inputs[0] is None:
            break
        value = node.inputs[0]
    return value


def _guessed(value: ir.Value) -> Cut:
    """An input of the whole model that the part still reads, usually only for its sizes."""
    if value.dtype is None or value.shape is None:
        raise NotLiftedError(f"it could not be proven, because the shape of {value.name!r} is not known")
    names = (BATCH, SEQ, *("",) * value.shape.rank())
    axes = [dim if isinstance(dim, int) else names[i] or 3 for i, dim in enumerate(value.shape)]
    return Cut(tuple(axes), value.dtype)


def _draw(feeds: Mapping[str, Cut], batch: int, seq: int, seed: int, limits: tuple[int, int]) -> dict[str, np.ndarray]:
    """Random arrays; limits (0, 0) stands for full lengths and masks."""
    random = np.random.default_rng(seed)
    full = limits == (0, 0)
    sizes: dict[str | int, int] = {BATCH: batch, SEQ: seq}
    arrays = {}
    for name, cut in feeds.items():
        shape = [axis if isinstance(axis, int) else sizes[axis] for axis in cut.axes]
        dtype = cut.dtype.numpy()
        if cut.is_lengths:  # at best nothing, more than all, and between
            values = np.full(shape, seq) if full else random.integers(limits[0], seq + limits[1] + 1, shape)
        elif cut.dtype == ir.DataType.BOOL:
            values = np.ones(shape, bool) if full else random.random(shape) < 0.6
        elif cut.dtype.is_integer():
            values = random.integers(0, 2, shape)
        else:
            values = random.standard_normal(shape)
        arrays[name] = values.astype(dtype)
    return arrays


def _session(model: ir.Model) -> ort.InferenceSession:
    try:
        return session_of(model)
    except Exception as error:
        reason = str(error).strip().splitlines()[0]
        raise NotLiftedError(f"it could not be proven, because ONNX Runtime does not load it: {reason}") from error


def _padded(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Zeros after the steps that a loop did not run."""
    if array.ndim != len(shape) or any(have > want for have, want in zip(array.shape, shape, strict=True)):
        return array
    return np.pad(array, [(0, want - have) for have, want in zip(array.shape, shape, strict=True)])


def _difference(found: np.ndarray, expected: np.ndarray, *, padded: bool) -> float:
    expected = _padded(expected, found.shape) if padded else expected
    if found.shape != expected.shape or not np.array_equal(np.isnan(found), np.isnan(expected)):
        return float("inf")
    if not expected.size:
        return 0.0
    gap = np.nanmax(np.abs(found.astype(np.float64) - expected), initial=0.0)
    return float(gap / max(1.0, np.nanmax(np.abs(expected), initial=0.0)))
