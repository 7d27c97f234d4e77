"""Lift recurrent cells out of `Loop`, `Scan` and unrolled steps of any ONNX file, each proven before it is kept."""

from seqport.exporters.lift.errors import LiftError
from seqport.exporters.lift.lifting import lift, lift_model
from seqport.exporters.lift.report import LeftAlone, Lifted, Report

__all__ = ["LeftAlone", "LiftError", "Lifted", "Report", "lift", "lift_model"]
