"""What an artifact promises, checked on the finished graph.

Needs: a lowered graph with named inputs and outputs. Guarantees: every break of the contract is a refusal in the job;
under `strict` the first makes the export fail.
"""

from __future__ import annotations

import onnx
import onnx_ir as ir

from seqport.exporters.errors import ExportError, Refusal
from seqport.exporters.passes.job import Job
from seqport.exporters.recurrent import DOMAIN
from seqport.exporters.serial import through_onnx

_LOOPS = ("Loop", "Scan")


def check_contract(job: Job) -> None:
    """Collect the breaks, and raise under `strict`.

    Raises:
        ExportError: the contract is broken and the job is strict, or the file would be invalid.
    """
    nodes = list(job.model.graph.all_nodes())
    explained = bool(job.capture.refusals)
    for node in nodes:
        if node.op_type in _LOOPS and not explained:
            job.refusals.append(
                Refusal(
                    node.name or node.op_type,
                    f"is a {node.op_type}, which runs step by step, many times slower than a native node",
                    "use the framework's RNN, GRU or LSTM layer for the loop",
                )
            )
        if node.domain == DOMAIN:
            raise ExportError(
                f"{node.name}: a neutral recurrent node was left in the graph; this is a fault of seqport"
            )
    job.refusals.extend(_axis_breaks(job))
    if job.strict and job.refusals:
        lines = "\n".join(f"- {refusal}" for refusal in job.refusals)
        raise ExportError(
            f"the artifact would break the contract, so nothing was written:\n{lines}\n"
            "strict=False writes it all the same and records the breaks in its metadata"
        )
    _check_file(job.model)


def _axis_breaks(job: Job) -> list[Refusal]:
    breaks = []
    for value, item in zip(job.model.graph.inputs, job.capture.inputs, strict=True):
        if value.name != item.name:
            raise ExportError(f"input {item.name!r} became {value.name!r}; this is a fault of seqport")
        assert value.shape is not None
        for position, axis in item.dynamic_axes.items():
            found = value.shape[position]
            if not isinstance(found, ir.SymbolicDim) or found.value != axis:
                breaks.append(
                    Refusal(
                        f"input {item.name!r}",
                        f"has axis {position} as {found} where {axis!r} was declared",
                        "declare it as fixed, or keep the model free of fixed sizes",
                    )
                )
    return breaks


def _check_file(model: ir.Model) -> None:
    try:
        through_onnx(model, lambda proto: onnx.checker.check_model(proto, full_check=True))
    except Exception as error:
        raise ExportError(f"onnx.checker refuses the exported graph: {error}") from error
