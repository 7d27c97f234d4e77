"""Where a loop is cut out of its model for the proof: what comes in, and what its axes are.

Needs: a plan. Guarantees: for the loop's input, lengths, mask and initial states, the earliest value that holds
nothing else, so that sizes that the model reads off it are those of the random array.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from seqport.exporters.lift.errors import NotLiftedError
from seqport.exporters.lift.plan import Plan
from seqport.exporters.lift.walk import Facts, attribute
from seqport.exporters.passes.builder import constant
from seqport.exporters.passes.lengths import is_zero

BATCH, SEQ = "batch", "seq"


@dataclass(frozen=True)
class Cut:
    """Where random values go in: what the axes are, the element type, and whether the values are lengths."""

    axes: tuple[str | int, ...]
    dtype: ir.DataType
    is_lengths: bool = False


class Cuts(dict[str, Cut]):
    """Cuts by the name of the value.

    Args:
        facts: of the model.
    """

    def __init__(self, facts: Facts) -> None:
        super().__init__()
        self._facts = facts

    def put(self, value: ir.Value, axes: list[str | int], *, is_lengths: bool = False) -> None:
        """Cut at a value, or before its transpositions; sizes that are fixed stay as they are."""
        value, axes = _root(value, axes)
        dtype = self._facts.dtype(value)
        shape = self._facts.shape(value) or (None,) * len(axes)
        if constant(value) is None and dtype is not None and len(shape) == len(axes):
            fixed = tuple(a if not isinstance(s, int) else s for a, s in zip(axes, shape, strict=True))
            self.setdefault(value.name or "", Cut(fixed, dtype, is_lengths))

    def put_sequence(self, value: ir.Value, axis: int) -> None:
        """Cut at a sequence whose steps stand along an axis."""
        shape = self._facts.shape(value)
        if shape is None:
            raise NotLiftedError(f"the rank of {value.name!r} is not known")
        axes: list[str | int] = [size if isinstance(size, int) else 1 for size in shape]
        axes[axis] = SEQ
        if len(axes) > 1:
            axes[0 if axis else 1] = BATCH
        self.put(value, axes)

    def put_state(self, value: ir.Value, width: int) -> None:
        """Cut at an initial state, unless it is always zero."""
        if not is_zero(value):
            self.put(value, [BATCH, width])


def cuts_of(plan: Plan) -> Cuts:
    """The cuts around a loop.

    Raises:
        NotLiftedError: a rank is not known.
    """
    facts = plan.steps.facts
    cuts = Cuts(facts)
    for part in plan.steps.slices.values():
        cuts.put_sequence(part.sequence, part.axis)
    for carried in plan.carried:
        whole = carried.state.whole or carried.state
        width = whole.width(facts)
        if width is not None:
            cuts.put_state(whole.initial, width)
    for layer in plan.layers:
        if layer.gate is not None and layer.gate.lengths is not None:
            cuts.put(layer.gate.lengths[0], [BATCH], is_lengths=True)
    return cuts


def _root(value: ir.Value, axes: list[str | int]) -> tuple[ir.Value, list[str | int]]:
    """The value before it was transposed or given more axes, and its axes there."""
    while (node := value.producer()) is not None and node.inputs and node.inputs[0] is not None:
        if node.op_type == "Transpose" and attribute(node, "perm") is not None:
            perm = list(attribute(node, "perm"))
            axes = [axes[perm.index(i)] for i in range(len(perm))]
        elif node.op_type == "Unsqueeze" and (added := constant(node.inputs[1])) is not None:
            drop = {int(axis) % len(axes) for axis in added.reshape(-1)}
            axes = [axis for i, axis in enumerate(axes) if i not in drop]
        elif node.op_type != "Identity":
            break
        value = node.inputs[0]
    return value, axes
