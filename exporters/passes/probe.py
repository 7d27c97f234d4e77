"""Run the artifact at shapes that the trace never saw, beside the user's own model.

Needs: a lowered graph with the user's inputs. Guarantees: the artifact runs on ONNX Runtime at every probed shape and
gives the model's own answers, or the job has a refusal that says where it does not; the output axes carry the
names of the input axes whose sizes they take.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir
import onnxruntime as ort

from seqport.exporters.capture import Arrays
from seqport.exporters.comparisons import Turn
from seqport.exporters.errors import ExportError, Refusal
from seqport.exporters.passes.axis_names import axes_of
from seqport.exporters.passes.comparison import Comparison
from seqport.exporters.passes.draws import FURTHER, MEASURED, Draws, Roles, Sizes
from seqport.exporters.passes.job import Job
from seqport.exporters.passes.judgement import Judge
from seqport.exporters.passes.limits import Limits, measured_limits
from seqport.exporters.passes.roles import data_sources, lengths_source, native_nodes, time_axis
from seqport.exporters.passes.runs import Refused, Run, Runner, unrunnable
from seqport.exporters.passes.tables import id_ranges
from seqport.exporters.passes.turning import far, rows_of, searched, smallest_above, untried
from seqport.exporters.passes.values import Values
from seqport.exporters.serial import session_of
from seqport.runtime.artifact import TensorInfo

# Float32 runtimes differ by rounding; a lost length, a swapped gate or a baked state differ by far more. Half
# precision has about three digits, and the artifact rounds at other places than the model.
TOLERANCE = 1e-4
HALF_TOLERANCE = 1e-2
# Lengths up to the ends of their axes: of every row, or of one.
_FULL, _VARIED = MEASURED[1]._replace(full=True), MEASURED[1]._replace(shorter=0)
# Rows and steps that values are varied in: of one step, much is not looked at.
_SEVERAL = 3
# Answers of more elements are compared and forgotten.
_KEPT = 2**22
# A loop is run over so many steps whatever it notes: numbers that leave Python (a Decimal, a deque's end) note nothing.
_UNNOTED = 1024


@dataclass(frozen=True)
class Measured:
    """What the probes found.

    Attributes:
        outputs: name, element type and axes of each output, in order.
        runs: the probes that measured them.
        checked: the probes at which the artifact was compared with the model, without those of large answers.
        session: the artifact on ONNX Runtime.
        draws: where the inputs came from.
        limits: the sizes that the model takes, of each axis that is not free.
        judge: compares answers of the artifact.
        scale: of the sizes, at which the model takes drawn inputs.
        kind: of the values that it takes.
        values: the regimes of values at which the artifact was compared with the model, beside the usual one.
    """

    outputs: tuple[TensorInfo, ...]
    runs: tuple[Run, ...]
    checked: tuple[Run, ...]
    session: ort.InferenceSession
    draws: Draws
    limits: Limits
    judge: Judge
    scale: int
    kind: str
    values: tuple[str, ...] = ()


def probe(job: Job, example: Arrays | None) -> Measured:
    """Prove the artifact and measure its outputs.

    Raises:
        ExportError: ONNX Runtime cannot load the artifact, or runs it at none of the probed shapes.
    """
    session = session_for(job.model)
    draws = Draws(
        job.capture.inputs,
        _roles(job),
        example or {},
        job.capture.padding_values,
        id_ranges(job.model.graph, partly=True),
    )
    runner = Runner(job, session, draws)
    runs = runner.measured()
    if runs[0].expected is not None:
        _check_repeats(job, runs[0])
    measured = tuple(runs)
    half = _is_half(job, runs[0])
    tolerance = HALF_TOLERANCE if half else TOLERANCE
    judge = Judge(job.model, session, [run.expected for run in measured if run.expected is not None], half=half)
    comparison = Comparison(job, judge, tolerance)
    for run in measured:
        comparison.compare(run)
    refused = set()
    for sizes in FURTHER:
        further = runner.run(sizes)
        if isinstance(further, Run):
            comparison.compare(further)
            runs.append(further)
        elif further.by_model:
            refused.add(sizes)
        else:
            job.refusals.append(unrunnable(further))
    limits: Limits = {}
    if runs[0].expected is not None:
        further_runs, limits = _turning(job, runner, draws, comparison, short=FURTHER[0] in refused)
        runs += further_runs
    values: tuple[str, ...] = ()
    if runs[0].expected is not None and not job.refusals:
        fewest = [run for run in runs if run.expected is not None and min(run.sizes.values(), default=1) >= _SEVERAL]
        usual = min(fewest or measured, key=lambda run: sum(array.size for array in run.inputs.values()))
        probed = [usual.inputs, *(run.inputs for run in measured if run is not usual)]
        values = Values(job, session, draws, judge, tolerance, probed, runner.kind).compare()
    outputs = tuple(
        TensorInfo(name, array.dtype.name, axes_of(name, runs, draws.roles)) for name, array in runs[0].outputs.items()
    )
    checked = tuple(run for run in runs if run.outputs)
    return Measured(outputs, measured, checked, session, draws, limits, judge, runner.scale, runner.kind, values)


def _turning(
    job: Job, runner: Runner, draws: Draws, comparison: Comparison, *, short: bool
) -> tuple[list[Run], Limits]:
    """The artifact beside the model far away, wherever the model's code turns, and where it ends to take sizes."""
    scale, kind = runner.scale, runner.kind
    looped = set(job.capture.fixed_axes) - set(job.capture.told)
    usual = draws.sizes(_FULL, scale)
    questions, turns = searched(job, draws, scale, kind, usual, rows_of(draws, looped))
    turned, refused = _at_sizes(job, runner, turns.tried, _FULL, comparison)
    found: list[Run] = []
    if job.capture.runs_python and not comparison.lines:  # else a line is named already
        # Long inputs are cheap where the model's own loop is native code. Keras runs it in Python: where it must be.
        ends = {*questions.numbers, _UNNOTED} if job.capture.fixed_axes else ()
        found, refused_too = _at_sizes(job, runner, far(draws, looped, ends, questions), _VARIED, comparison)
        refused += refused_too
    job.refusals += [untried(line) for line in turns.untried]
    beyond = {axis: size for axis, (size, _) in turns.limits.items()}
    above = smallest_above(usual, refused)
    limits = measured_limits(job, draws, scale, kind, short=short, long=above, untried=beyond, fits=questions.fits)
    job.capture.notes += [
        f"{axis}: proven up to {size}; beyond, {line} may go another way" for axis, (size, line) in turns.limits.items()
    ]
    last = [
        Turn({axis: size}, None, "")
        for axis, pair in limits.items()
        for size in pair
        if size and size != beyond.get(axis) and questions.fits({**usual, axis: size})
    ]
    at_limits, _ = _at_sizes(job, runner, last, _FULL, comparison)
    return found + turned + at_limits, limits


def _at_sizes(
    job: Job, runner: Runner, turns: Sequence[Turn], sizes: Sizes, comparison: Comparison
) -> tuple[list[Run], list[Turn]]:
    """The artifact beside the model at certain sizes, and those that the model refuses."""
    found: list[Run] = []
    refused: list[Turn] = []
    for turn in turns:
        if turn.line in comparison.lines:
            continue
        run = runner.run(sizes, turn=turn)
        if isinstance(run, Refused) and run.by_model:  # perhaps not so long rows
            run = runner.run(MEASURED[1], turn=turn)
        if isinstance(run, Run):
            comparison.compare(run)
            few = sum(array.size for array in run.outputs.values()) <= _KEPT
            found.append(run if few else replace(run, expected=None, outputs={}))
        elif run.undefined:
            continue  # values that grow beyond all bounds say nothing
        elif run.by_model:
            refused.append(turn)
        else:
            job.refusals.append(unrunnable(run))
    return found, refused


def _roles(job: Job) -> Roles:
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


def session_for(model: ir.Model) -> ort.InferenceSession:
    """The exported graph on ONNX Runtime.

    Raises:
        ExportError: ONNX Runtime does not load it.
    """
    try:
        return session_of(model)
    except Exception as error:
        raise ExportError(f"ONNX Runtime cannot load the exported graph: {error}") from error


def _check_repeats(job: Job, run: Run) -> None:
    """Refuse a model that answers otherwise when it is called again: that is in no file."""
    again = job.capture.reference(run.inputs, again=True)
    if run.expected is None or all(np.array_equal(again[k], v, equal_nan=True) for k, v in run.expected.items()):
        return
    job.refusals.append(
        Refusal(
            "the model",
            "answers otherwise when it is called again with the same inputs: it keeps a state or draws random numbers",
            "make the state an input and an output of forward, and switch the randomness off for inference",
        )
    )


def _is_half(job: Job, run: Run) -> bool:
    """Whether the reference itself computes in half precision; PyTorch's is a float32 copy of such a model."""
    half = any(array.dtype == np.float16 for array in (run.expected or {}).values())
    half = half or any(note.endswith("float16") for note in job.capture.notes)
    return half and job.capture.convention != "pytorch"
