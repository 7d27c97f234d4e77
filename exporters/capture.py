"""What a frontend hands to the passes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from seqport.exporters.comparisons import Condition, Notes
from seqport.exporters.errors import Refusal
from seqport.exporters.signature import Input

Arrays = Mapping[str, np.ndarray]


@dataclass
class Capture:
    """A traced model, every recurrent layer still one neutral node.

    Attributes:
        model: the graph; inputs and outputs already carry the user's names and order.
        inputs: the declared inputs, or those that the model knew.
        convention: whose padding convention the graph reproduces.
        source: framework and versions, for the metadata.
        reference: the user's own model, run by its own framework on arrays by name; with `again=True` called
            twice in a row, and the second answer given.
        refusals: recurrent layers that stayed as the framework wrote them, and why.
        fixed_axes: dynamic axes that the trace fixed by unrolling a loop over them, with the traced size.
        told: which of the fixed axes are none of an input, but a number of steps that values tell, max(lengths); an
            output of the same name tells it, behind the model's own, until the loops are rolled.
        bounds: dynamic axes up to whose size, given here, the trace holds: beyond it the model refuses, or is another.
        notes: what the artifact does otherwise than the model, such as another precision.
        padding_values: input name → the value that the model itself masks, where it is not 0.
        elsewhere: captures the same model with the fixed axes at other sizes; None where nothing was fixed.
        conditions: what the trace took for granted of sizes.
        runs_python: code of the user's runs when the model does, and may look at sizes that the trace did not know.
        noted: runs the model on arrays by name; what its own code compares meanwhile and, where that is wanted, which
            takes longer, how large its tensors are. None where no frontend can tell.
    """

    model: ir.Model
    inputs: tuple[Input, ...]
    convention: str
    source: dict[str, str]
    reference: Callable[..., dict[str, np.ndarray]]
    refusals: list[Refusal] = field(default_factory=list)
    padding_values: dict[str, float] = field(default_factory=dict)
    elsewhere: Callable[[], Capture] | None = None
    conditions: Sequence[Condition] = ()
    noted: Callable[[Arrays, bool], Notes] | None = None
    fixed_axes: dict[str, int] = field(default_factory=dict)
    told: tuple[str, ...] = ()
    runs_python: bool = True
    bounds: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
