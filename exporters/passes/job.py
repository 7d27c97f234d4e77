"""What travels through the passes."""

from __future__ import annotations

from dataclasses import dataclass, field

import onnx_ir as ir

from seqport.exporters.capture import Capture
from seqport.exporters.errors import Refusal
from seqport.runtime.artifact import Description, PrecisionInfo


@dataclass
class Job:
    """One export on its way from captured graph to artifact.

    Attributes:
        capture: what the frontend gave.
        opset: the opset of the artifact.
        strict: whether a contract break fails the export.
        padded_outputs: layer → what stands at its padded steps, filled by the lowering.
        refusals: every contract break found so far.
        precision: what another precision than the model's own costs, where one was asked for.
        soft_masks: layer → a mask of floats that holds its state, taken for zeros and ones.
        zeros_and_ones: inputs that a mask is computed from, which it is one only if they hold zeros and ones.
        largest: input of whole numbers → the largest that the model takes, where the artifact takes more.
        not_negative: inputs of whole numbers at whose negative values the artifact is not the model.
        description: filled last.
    """

    capture: Capture
    opset: int
    strict: bool = True
    padded_outputs: dict[str, str] = field(default_factory=dict)
    refusals: list[Refusal] = field(default_factory=list)
    precision: PrecisionInfo | None = None
    soft_masks: dict[str, str] = field(default_factory=dict)
    zeros_and_ones: set[str] = field(default_factory=set)
    not_negative: set[str] = field(default_factory=set)
    largest: dict[str, int] = field(default_factory=dict)
    description: Description | None = None

    def __post_init__(self) -> None:
        self.refusals.extend(self.capture.refusals)

    @property
    def model(self) -> ir.Model:
        """The graph that the passes edit."""
        return self.capture.model

    @model.setter
    def model(self, model: ir.Model) -> None:
        self.capture.model = model
