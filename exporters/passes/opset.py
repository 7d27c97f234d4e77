"""The opset that was asked for.

Needs: only standard operators. Guarantees: the model imports exactly the opset of the job, with the IR version
that came with it. Conversion is onnx's own version converter.
"""

from __future__ import annotations

import onnx
import onnx_ir as ir
from onnx import version_converter

from seqport.exporters.errors import ExportError
from seqport.exporters.passes.job import Job

# opset → IR version of the onnx release that brought it: https://github.com/onnx/onnx/blob/main/docs/Versioning.md
IR_VERSIONS = {17: 8, 18: 8, 19: 9, 20: 9, 21: 10, 22: 10}


def set_opset(job: Job) -> None:
    """Convert the model to the job's opset.

    Raises:
        ExportError: the graph holds an operator that the converter cannot take there.
    """
    job.model.ir_version = max(job.model.ir_version, IR_VERSIONS[job.opset])
    if job.model.opset_imports.get("") != job.opset:
        before = job.model.opset_imports.get("")
        try:
            # The converter copies the model through a string, which weights above 2 GB do not fit.
            proto = version_converter.convert_version(ir.to_proto(job.model), job.opset)
        except Exception as error:
            raise ExportError(
                f"the graph cannot be converted from opset {before} to {job.opset}: {str(error).strip()}. "
                "Remedy: export with opset=18, which ONNX Runtime 1.14 and later run"
            ) from error
        job.model = ir.from_proto(proto)
        _drop_unknown_attributes(job)
    job.model.ir_version = IR_VERSIONS[job.opset]


def _drop_unknown_attributes(job: Job) -> None:
    """The converter leaves attributes that an older opset does not know, at values that mean nothing there."""
    for node in job.model.graph.all_nodes():
        known = onnx.defs.get_schema(node.op_type, job.opset, "").attributes
        for name in [name for name in node.attributes if name not in known]:
            if node.attributes[name].value not in (0, None):
                raise ExportError(
                    f"{node.op_type} {node.name!r} has {name}={node.attributes[name].value}, "
                    f"which opset {job.opset} does not know. Remedy: export with opset=18"
                )
            del node.attributes[name]
