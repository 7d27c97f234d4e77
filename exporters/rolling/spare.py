"""A loop that may take no step at all, as a recurrent layer of at least one: ONNX Runtime's kernels need one.

Needs: what a layer reads, in the order of time. Guarantees: one more step behind the others, which no row takes.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from seqport.exporters.passes.builder import Builder
from seqport.exporters.passes.lengths import lengths_behind


@dataclass(frozen=True)
class Steps:
    """What a layer reads at each step, and which of the steps a row takes.

    Attributes:
        x: [seq, batch, input_dim].
        mask: bool [batch, seq], or None.
        lengths: int64 [batch], or None; never with a mask.
    """

    x: ir.Value
    mask: ir.Value | None = None
    lengths: ir.Value | None = None


def with_spare_step(build: Builder, steps: Steps, count: ir.Value) -> Steps:
    """The steps and one more, of zeros.

    Args:
        build: where to emit.
        steps: of the loop.
        count: how many they are, [1].
    """
    sizes = [build.op("Shape", steps.x, start=i, end=i + 1) for i in range(3)]
    step = build.op("Concat", build.const([1]), *sizes[1:], axis=0)
    more = build.op("Expand", build.op("CastLike", build.const(0.0, "float32"), steps.x), step)
    x = build.op("Concat", steps.x, more, axis=0)
    if steps.mask is None:
        return Steps(x, lengths=build.op("Expand", count, sizes[1]))
    behind = lengths_behind(steps.mask)
    if behind is not None:
        wide = build.op("Cast", behind, to=ir.DataType.INT64)
        return Steps(x, lengths=build.op("Max", build.op("Min", wide, count), build.const([0])))
    column = build.op("Expand", build.const(False, "bool"), build.op("Concat", sizes[1], build.const([1]), axis=0))
    return Steps(x, build.op("Concat", steps.mask, column, axis=1))
