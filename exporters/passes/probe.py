"""Run the artifact at shapes that the trace never saw, beside the user's own model.

Needs: a lowered graph with the user's inputs. Guarantees: the artifact runs on ONNX Runtime at every probed shape and
gives the model's own answers; the output axes carry the names of the input axes whose sizes they take.

Naming by measurement needs no faith in shape inference, and a baked axis cannot pass: each probe gives every
dynamic axis, and the largest length, a size of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
import onnxruntime as ort

from seqport.exporters.capture import Arrays
from seqport.exporters.errors import ExportError, Refusal
from seqport.exporters.passes.job import Job
from seqport.exporters.passes.roles import data_sources, lengths_source, native_nodes, time_axis
from seqport.exporters.signature import Input, axis_names
from seqport.runtime.artifact import TensorInfo

# Sizes of the first dynamic axis (usually the batch) and of those after it, and by how much a length stays
# below its axis; all different, so that an output's axis tells where its size comes from.
_SIZES = ((3, 13, 17, 23), (5, 19, 29, 37))
_SHORTER = 2
# A model may need more steps than the probes have (a convolution over time): then all sizes grow.
_SCALES = (1, 8)
# Float32 runtimes differ by rounding; a lost length, a swapped gate or a baked state differ by far more. Half
# precision has about three digits, and the artifact rounds at other places than the model.
TOLERANCE = 1e-4
_HALF_TOLERANCE = 1e-2


# Lengths input → the axis (name, or fixed size) that bounds its values.
Roles = Mapping[str, str | int]


@dataclass(frozen=True)
class Probe:
    """One run: the sizes, the inputs, and what the artifact gave."""

    sizes: dict[str, int]
    inputs: dict[str, np.ndarray]
    outputs: dict[str, np.ndarray]


def probe(job: Job, example: Arrays | None) -> tuple[TensorInfo, ...]:
    """Prove the artifact and measure its outputs.

    Returns:
        Name, element type and axes of each output, in order.

    Raises:
        ExportError: ONNX Runtime cannot load or run the artifact.
    """
    roles = _lengths_roles(job)
    session = _session(job.model)
    last: Exception | None = None
    for scale in _SCALES:
        try:
            runs = [_run(job, session, roles, example, row, scale) for row in range(len(_SIZES))]
            break
        except _ProbeError as error:
            last = error
    else:
        raise ExportError(f"the exported graph does not run at shapes that the trace never saw: {last}") from last
    for run in runs:
        _compare(job, run)
    return tuple(
        TensorInfo(name, array.dtype.name, _axes(name, runs, roles)) for name, array in runs[0].outputs.items()
    )


class _ProbeError(Exception):
    """ONNX Runtime refused a probe."""


def _lengths_roles(job: Job) -> Roles:
    """Lengths input → the axis (name, or fixed size) that its values are bounded by."""
    inputs = {item.name: item for item in job.capture.inputs}
    roles: dict[str, str | int] = {}
    for node in native_nodes(job.model):
        name = lengths_source(node, job.capture.inputs)
        if name is None or name == "mask" or name in roles:
            continue
        for data in data_sources(node, job.capture.inputs):
            roles[name] = inputs[data].axes[time_axis(inputs[data], inputs[name].axes[0])]
            break
    return roles


def _session(model: ir.Model) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    try:
        data = ir.to_proto(model).SerializeToString()
        return ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ExportError(f"ONNX Runtime cannot load the exported graph: {error}") from error


def _run(
    job: Job,
    session: ort.InferenceSession,
    roles: Roles,
    example: Arrays | None,
    row: int,
    scale: int,
) -> Probe:
    names = axis_names(job.capture.inputs)
    sizes = {name: _SIZES[row][min(i, 3)] * scale + max(0, i - 3) for i, name in enumerate(names)}
    random = np.random.default_rng(row)
    arrays = {
        item.name: _lengths(item, sizes, roles[item.name], random)
        if item.name in roles
        else _values(item, sizes, None if example is None else example.get(item.name), random)
        for item in job.capture.inputs
    }
    outputs = [value.name or "" for value in job.model.graph.outputs]
    try:
        results = session.run(outputs, arrays)
    except Exception as error:
        raise _ProbeError(str(error).strip()) from error
    return Probe(sizes, arrays, {name: np.asarray(array) for name, array in zip(outputs, results, strict=True)})


def _lengths(item: Input, sizes: dict[str, int], bound: str | int, random: np.random.Generator) -> np.ndarray:
    """Lengths that fall (some models want them sorted), the longest below its axis, the shortest 1."""
    longest = max(1, sizes[bound] - _SHORTER) if isinstance(bound, str) else bound
    shape = item.shape(sizes)
    values = np.sort(random.integers(1, longest + 1, shape))[::-1]
    values[0], values[-1] = longest, 1 if len(values) > 1 else longest
    return values.astype(item.dtype)


def _values(item: Input, sizes: dict[str, int], example: np.ndarray | None, random: np.random.Generator) -> np.ndarray:
    shape = item.shape(sizes)
    if example is not None and example.size:
        return random.choice(np.asarray(example).reshape(-1), shape).astype(item.dtype)
    if item.dtype.startswith("float"):
        return random.standard_normal(shape).astype(item.dtype)
    return random.integers(0, 2, shape).astype(item.dtype)  # small: an int may be an id of a small vocabulary


def _compare(job: Job, run: Probe) -> None:
    """The artifact against the user's own model, on the same inputs."""
    try:
        reference = job.capture.reference(run.inputs)
    except Exception:
        # The model itself refuses the values drawn here (an id out of range, say): give an example to be proven.
        return
    for name, expected in reference.items():
        difference = _difference(run.outputs[name], expected)
        if difference > (_HALF_TOLERANCE if expected.dtype == np.float16 else TOLERANCE):
            shapes = ", ".join(f"{axis}={size}" for axis, size in run.sizes.items())
            job.refusals.append(
                Refusal(
                    f"output {name!r}",
                    f"differs from the model's own by {difference:.3g} (relative to its largest value) at {shapes}",
                    "the model does something in Python that the trace froze, or draws random numbers; "
                    "make forward depend on its inputs alone",
                )
            )


def _difference(found: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference, relative to the largest value where that is above 1; infinite for another shape."""
    if found.shape != expected.shape:
        return float("inf")
    if not np.issubdtype(expected.dtype, np.floating):
        return float(np.any(found != expected))
    found, expected = found.astype(np.float64), expected.astype(np.float64)
    if not np.array_equal(np.isfinite(found), np.isfinite(expected)):
        return float("inf")
    gap = np.abs(found - expected)[np.isfinite(expected)]
    scale = max(1.0, float(np.abs(expected[np.isfinite(expected)]).max(initial=0.0)))
    return float(gap.max(initial=0.0)) / scale


def _axes(name: str, runs: list[Probe], roles: Roles) -> tuple[str | int, ...]:
    shapes = [run.outputs[name].shape for run in runs]
    return tuple(_axis(name, i, [shape[i] for shape in shapes], runs, roles) for i in range(len(shapes[0])))


def _axis(name: str, position: int, found: list[int], runs: list[Probe], roles: Roles) -> str | int:
    for axis in runs[0].sizes:
        if all(size == run.sizes[axis] for size, run in zip(found, runs, strict=True)):
            return axis
    for lengths in roles:
        if (
            all(size == run.inputs[lengths].max() for size, run in zip(found, runs, strict=True))
            and len(set(found)) > 1
        ):
            return f"max_{lengths}"
    return found[0] if len(set(found)) == 1 else f"{name}_{position}"
