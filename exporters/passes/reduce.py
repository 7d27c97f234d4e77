"""Another precision than the model's own, with what it costs measured.

Needs: an artifact that was proven in the model's own precision, so that no fault of the capture hides behind a wider
bound. Guarantees: the graph in the precision that was asked for, the largest and the mean difference of each
output to the model's own answers within the bound, and no check of the padding failed that held before; or an
ExportError with the remedy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import onnxruntime as ort

from seqport.exporters.errors import ExportError
from seqport.exporters.passes.describe import sequences_of
from seqport.exporters.passes.dynamic import compute_in_int8
from seqport.exporters.passes.invariance import batch_of, faults, moved
from seqport.exporters.passes.job import Job
from seqport.exporters.passes.probe import Measured, session_for
from seqport.exporters.passes.roles import native_nodes
from seqport.exporters.passes.roles_found import Roles
from seqport.exporters.passes.runs import Run
from seqport.exporters.passes.stored import SMALLEST, store_weights
from seqport.exporters.passes.tidy import tidy
from seqport.exporters.precision import UNPROVEN, Precision
from seqport.runtime.artifact import OutputError, PrecisionInfo

# Of an output of whole numbers (the tag with the largest score), the share of elements that may be others.
_WHOLE_NUMBERS = 0.1


def reduce_precision(job: Job, measured: Measured, roles: Roles, precision: Precision) -> Measured:
    """Take the job's graph to a precision, and measure it again.

    Raises:
        ExportError: there is nothing to reduce, it costs more than the bound, or padding moves the answers of other
            rows, which they did not do before.
    """
    axes = {found.name: found.axes for found in measured.outputs}
    sequences = sequences_of(job, axes, roles)
    batch = batch_of(measured.runs[-1], job.capture.inputs, measured, sequences, roles.axes.batch)
    before = {} if batch is None else moved(measured.session, batch)
    quantised = _reduce(job, precision.kind)
    session = session_for(job.model)
    errors = measure(session, measured.checked)
    _require_within(errors, measured, precision)
    if batch is not None:
        found = faults(before, moved(session, batch))
    else:
        found = ["the model has no dynamic batch axis, so nothing could be proven"] if quantised else []
    if found and precision.must_be_proven:
        raise ExportError(_unproven(precision, quantised, found))
    job.precision = PrecisionInfo(precision.name, precision.largest, errors, tuple(found))
    return replace(measured, session=session)


def _reduce(job: Job, kind: str) -> list[str]:
    """Reduce, and return the layers whose LSTM computes on the whole batch at once."""
    before = len(job.model.graph.initializers)
    quantised = compute_in_int8(job) if kind == "int8-dynamic" else []
    left = store_weights(job, "int8-weights" if kind == "int8-dynamic" else kind)
    if not quantised and len(job.model.graph.initializers) == before:
        raise ExportError(
            f"there is nothing to store in {kind}: the model has no matrix of weights with at least {SMALLEST} "
            "elements that fits it. Leave precision out"
        )
    if left and not kind.startswith("int8"):
        job.capture.notes.append(f"{', '.join(sorted(left))}: beyond the range of {kind}, and left as it was")
    if kind == "int8-dynamic":
        job.capture.notes.extend(
            f"{_layer(node.name)}: computed in float32 from int8 weights; ONNX Runtime quantises no {node.op_type}"
            + (" whose weights are computed" if node.op_type == "LSTM" else "")
            for node in native_nodes(job.model)
            if node.domain == ""
        )
    tidy(job)
    return [_layer(name) for name in quantised]


def _layer(node: str | None) -> str:
    return (node or "").rsplit("/", 1)[0]


def measure(session: ort.InferenceSession, runs: Sequence[Run]) -> tuple[OutputError, ...]:
    """The largest and the mean difference of each output, over all runs."""
    names = list(runs[0].outputs)
    gaps: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for run in runs:
        for name, found in zip(names, session.run(names, run.inputs), strict=True):
            expected = (run.expected or run.outputs)[name]
            gaps[name].append(_gaps(np.asarray(found), np.asarray(expected)).reshape(-1))
    return tuple(_error(name, np.concatenate(parts), runs[0].outputs[name].dtype) for name, parts in gaps.items())


def _gaps(found: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Element by element, relative to its own value where that is above 1; for whole numbers, whether it is another."""
    if found.shape != expected.shape:
        return np.array([np.inf])
    if not np.issubdtype(expected.dtype, np.floating):
        return (found != expected).astype(np.float64)
    found, expected = found.astype(np.float64), expected.astype(np.float64)
    same = (found == expected) | (np.isnan(found) & np.isnan(expected))
    with np.errstate(invalid="ignore"):
        gap = np.abs(found - expected) / np.maximum(1.0, np.abs(expected))
    return np.where(same, 0.0, np.where(np.isfinite(gap), gap, np.inf))


def _error(name: str, gaps: np.ndarray, dtype: np.dtype) -> OutputError:
    """Three digits: what a machine's own order of sums changes is behind them."""
    mean = float(f"{gaps.mean():.3g}") if gaps.size else 0.0
    largest = float(f"{gaps.max(initial=0.0):.3g}")
    return OutputError(name, largest if np.issubdtype(dtype, np.floating) else mean, mean)


def _require_within(errors: Sequence[OutputError], measured: Measured, precision: Precision) -> None:
    whole = {info.name for info in measured.outputs if not np.issubdtype(np.dtype(info.dtype), np.floating)}
    for error in errors:
        bound = max(precision.largest, _WHOLE_NUMBERS) if error.output in whole else precision.largest
        if error.largest > bound:
            what = "the share of other numbers is" if error.output in whole else "the largest difference is"
            raise ExportError(
                f"{precision.name} costs more than it may: of output {error.output!r}, {what} {error.largest:.3g} "
                f"(mean {error.mean:.3g}), at most {bound:.3g} allowed; nothing was written. Remedy: leave precision "
                f"out, choose one with more digits, or allow it with Precision({precision.name!r}, "
                f"bound={error.largest * 1.1:.2g})"
            )


def _unproven(precision: Precision, layers: Sequence[str], found: Sequence[str]) -> str:
    lines = "\n".join(f"- {fault}" for fault in found)
    named = f" ({', '.join(layers)})" if layers else ""
    return (
        f"in {precision.name} the answers of one row depend on the padding and on the other rows, because ONNX "
        f"Runtime's DynamicQuantizeLSTM{named} has one scale for the whole batch; nothing was written:\n{lines}\n"
        'Remedy: precision="int8-weights" computes in float32 from int8 weights; '
        f'precision="{precision.kind}{UNPROVEN}" writes the artifact all the same and records the checks that it fails'
    )
