"""The opset that was asked for.

Needs: only standard operators. Guarantees: the model imports exactly the opset of the job, with the IR version
that came with it. Upwards the conversion is onnx's own; down to 17 it is ours, because onnx's knows no Split.
"""

from __future__ import annotations

import onnx
import onnx_ir as ir
from onnx import version_converter

from seqport.exporters.errors import ExportError
from seqport.exporters.passes.builder import constant
from seqport.exporters.passes.job import Job
from seqport.exporters.serial import through_onnx

# opset → IR version of the onnx release that brought it: https://github.com/onnx/onnx/blob/main/docs/Versioning.md
IR_VERSIONS = {17: 8, 18: 8, 19: 9, 20: 9, 21: 10, 22: 10}
_REMEDY = "Remedy: export with opset=18, which ONNX Runtime 1.14 and later run"
# What the frontends write; reductions take their axes as an input since then, and as an attribute before.
_TRACED = 18


def set_opset(job: Job) -> None:
    """Convert the model to the job's opset.

    Raises:
        ExportError: the graph holds an operator that cannot be taken there.
    """
    before = job.model.opset_imports.get("")
    if before == _TRACED and job.opset < _TRACED:
        for node in job.model.graph.all_nodes():
            _before_18(node)
        job.model.opset_imports[""] = job.opset
    elif before != job.opset:
        job.model.ir_version = max(job.model.ir_version, IR_VERSIONS[job.opset])
        try:
            job.model = through_onnx(job.model, lambda proto: version_converter.convert_version(proto, job.opset))
        except Exception as error:
            raise ExportError(
                f"the graph cannot be converted from opset {before} to {job.opset}: {str(error).strip()}. {_REMEDY}"
            ) from error
    job.model.ir_version = IR_VERSIONS[job.opset]


def _before_18(node: ir.Node) -> None:
    """One node in the form it had before opset 18: https://github.com/onnx/onnx/blob/main/docs/Changelog.md."""
    if not onnx.defs.has(node.op_type, _TRACED - 1, ""):
        raise ExportError(f"{node.op_type} {node.name!r} does not exist before opset 18. {_REMEDY}")
    if node.op_type == "Split":
        node.attributes.pop("num_outputs", None)  # what is left out means equal parts
    elif node.op_type.startswith("Reduce") and node.op_type != "ReduceSum":
        _axes_as_attribute(node)
    elif node.op_type == "Pad" and len(node.inputs) > 3 and node.inputs[3] is not None:
        raise ExportError(f"Pad {node.name!r} has axes, which it takes since opset 18 only. {_REMEDY}")


def _axes_as_attribute(node: ir.Node) -> None:
    noop = node.attributes.pop("noop_with_empty_axes", None)
    given = node.inputs[1] if len(node.inputs) > 1 else None
    if given is None:
        if noop is not None and noop.as_int():
            raise ExportError(f"{node.op_type} {node.name!r} has noop_with_empty_axes=1. {_REMEDY}")
        return
    axes = constant(given)
    if axes is None:
        raise ExportError(f"{node.op_type} {node.name!r} computes its axes, as it may since opset 18. {_REMEDY}")
    node.resize_inputs(1)
    node.attributes["axes"] = ir.AttrInt64s("axes", axes.reshape(-1).tolist())
