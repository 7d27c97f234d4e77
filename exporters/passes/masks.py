"""Any mask, made exact with native lengths: kept steps to the front, and outputs back to their place.

Needs: x [seq, batch, input_dim] and a mask [batch, seq] with padding anywhere (left, right, holes,
an empty row). Guarantees: the native node sees each row's kept steps first, in order, with
sequence_lens = mask.sum(1); outputs stand where the mask has their steps.
"""

from __future__ import annotations

import onnx_ir as ir

from seqport.exporters.passes.builder import Builder, outputs_of


def compact(build: Builder, x: ir.Value, mask: ir.Value) -> tuple[ir.Value, ir.Value]:
    """X with every row's kept steps in front, [seq, batch, input_dim], and how many they are, int32 [batch]."""
    kept = build.op("Cast", build.op("Transpose", mask, perm=[1, 0]), to=ir.DataType.INT64)  # [seq, batch]
    lengths = build.op("ReduceSum", kept, build.const([0], name="time"), keepdims=0)
    # Keys fall along time, and every kept step's key is above every other's: keys differ, so
    # the order is the same in every sort. With seq steps: kept t has 2*seq - t, the others seq - t.
    seq = build.op("Shape", kept, start=0, end=1)
    steps = _steps(build, seq)
    keys = build.op("Sub", build.op("Mul", build.op("Add", kept, build.const(1)), seq), steps)
    order = outputs_of(build.op("TopK", keys, seq, axis=0, num_outputs=2))[1]  # [seq, batch]
    return _take(build, x, order), build.op("Cast", lengths, to=ir.DataType.INT32)


def spread(
    build: Builder,
    y: ir.Value,
    mask: ir.Value,
    lengths: ir.Value,
    *,
    reverse: bool,
    hold: bool,
    initial: ir.Value | None = None,
) -> ir.Value:
    """Outputs of the compacted steps back in their place.

    Args:
        build: where to emit.
        y: [seq, batch, size], compacted, zero past each row's length.
        mask: [batch, seq].
        lengths: [batch], how many steps of the mask are kept.
        reverse: the layer runs from the last step to the first.
        hold: a masked step repeats the step processed before it; else it is zero.
        initial: [1, batch, size], what a masked step repeats where no step was processed before it; zero without it.
    """
    kept = build.op("Transpose", mask, perm=[1, 0])  # [seq, batch]
    count = build.op("Cast", kept, to=ir.DataType.INT64)
    # Forward, step t repeats kept step number cumsum(t) (from 1); in reverse, the kept step that
    # comes next in time, number cumsum(t - 1). Number 0, or one past the last, is what stands before any step.
    number = build.op("CumSum", count, build.const(0), exclusive=int(reverse))
    before = _zero_step(build, y) if initial is None else initial
    if reverse and initial is not None:
        y = hold_initial(build, y, lengths, initial)
    rows = build.op("Concat", *((y, before) if reverse else (before, y)), axis=0)
    taken = _take(build, rows, number)
    return taken if hold else zero_where_masked(build, taken, kept)


def hold_last(build: Builder, y: ir.Value, lengths: ir.Value, initial: ir.Value | None = None) -> ir.Value:
    """Y [seq, batch, size] of a forward layer with each row's last valid step repeated after it.

    A row without steps repeats the initial state [1, batch, size], where it is given, or zero.
    """
    steps, wide = _steps(build, build.op("Shape", y, start=0, end=1)), build.op("Cast", lengths, to=ir.DataType.INT64)
    if initial is not None:
        number = build.op("Min", build.op("Add", steps, build.const(1)), wide)
        return _take(build, build.op("Concat", initial, y, axis=0), number)
    # A row without steps repeats y[0], which is zero there.
    last = build.op("Max", build.op("Sub", wide, build.const(1)), build.const(0))
    return _take(build, y, build.op("Min", steps, last))


def hold_initial(build: Builder, y: ir.Value, lengths: ir.Value, initial: ir.Value) -> ir.Value:
    """Y [seq, batch, size] of a reverse layer with the initial state [1, batch, size] at padding, which comes first."""
    steps = _steps(build, build.op("Shape", y, start=0, end=1))
    kept = build.op("Less", steps, build.op("Cast", lengths, to=ir.DataType.INT64))
    return build.op("Where", build.op("Unsqueeze", kept, build.const([2], name="axes")), y, initial)


def zero_where_masked(build: Builder, y: ir.Value, kept: ir.Value) -> ir.Value:
    """Y [seq, batch, size] with zeros where kept [seq, batch] is false."""
    condition = build.op("Unsqueeze", kept, build.const([2], name="axes"))
    return build.op("Where", condition, y, build.op("CastLike", build.const(0.0, "float32"), y))


def _zero_step(build: Builder, y: ir.Value) -> ir.Value:
    """One step of zeros, [1, batch, size]."""
    first = build.op("Slice", y, build.const([0]), build.const([1]), build.const([0], name="time"))
    return build.op("Mul", first, build.op("CastLike", build.const(0.0, "float32"), y))


def _steps(build: Builder, seq: ir.Value) -> ir.Value:
    """0, 1, … as a column [seq, 1]."""
    scalar = build.op("Squeeze", seq)
    steps = build.op("Range", build.const(0), scalar, build.const(1))
    return build.op("Unsqueeze", steps, build.const([1], name="axes"))


def _take(build: Builder, x: ir.Value, steps: ir.Value) -> ir.Value:
    """x[steps[t, b], b] for x [time, batch, size] and steps [seq, batch]."""
    batch_first = build.op("Transpose", x, perm=[1, 0, 2])
    index = build.op("Unsqueeze", build.op("Transpose", steps, perm=[1, 0]), build.const([2], name="axes"))
    taken = build.op("GatherND", batch_first, index, batch_dims=1)  # [batch, seq, size]
    return build.op("Transpose", taken, perm=[1, 0, 2])
