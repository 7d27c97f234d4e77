"""Exporters: a framework's model in, an ONNX artifact with native recurrent operators and lengths out."""

from seqport.exporters.errors import ExportError, InputsError
from seqport.exporters.export import Artifact, export
from seqport.exporters.precision import Precision
from seqport.exporters.signature import Input

__all__ = ["Artifact", "ExportError", "Input", "InputsError", "Precision", "export"]
