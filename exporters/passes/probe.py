"""Run the artifact at shapes that the trace never saw, beside the user's own model.

Needs: a lowered graph with the user's inputs. Guarantees: the artifact runs on ONNX Runtime at every probed shape and
gives the model's own answers, or the job has a refusal that says where it does not; the output axes carry the
names of the input axes whose sizes they take.

Naming by measurement needs no faith in shape inference, and a baked axis cannot pass: each measured probe gives every
dynamic axis, and the largest length, a size of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
import onnxruntime as ort

from seqport.exporters.capture import Arrays
from seqport.exporters.comparisons import Turn
from seqport.exporters.errors import ExportError, Refusal
from seqport.exporters.passes.draws import FURTHER, MEASURED, Draws, Roles, Sizes, tries
from seqport.exporters.passes.job import Job
from seqport.exporters.passes.judgement import Judge
from seqport.exporters.passes.limits import Limits, NoAnswerError, measured_limits, require_answer
from seqport.exporters.passes.placed import placed
from seqport.exporters.passes.roles import data_sources, lengths_source, native_nodes, time_axis
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
_FROZEN = "forward does something in Python that the trace froze, such as a branch on a size or on a step's number"


@dataclass(frozen=True)
class Run:
    """One probe: its sizes, its inputs, what the model gave (None: it refused them) and what the artifact gave."""

    sizes: dict[str, int]
    inputs: dict[str, np.ndarray]
    expected: dict[str, np.ndarray] | None
    outputs: dict[str, np.ndarray]
    line: str = ""  # of the model's code that turns near these sizes


@dataclass(frozen=True)
class Measured:
    """What the probes found.

    Attributes:
        outputs: name, element type and axes of each output, in order.
        runs: the probes that measured them.
        checked: all probes at which the artifact was compared with the model.
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
    runs, scale, kind = _measured(job, session, draws)
    if runs[0].expected is not None:
        _check_repeats(job, runs[0])
    refused = set()
    for sizes in FURTHER:
        further = _run(job, session, draws, sizes, scale, kind)
        if isinstance(further, Run):
            runs.append(further)
        elif further.by_model:
            refused.add(sizes)
        else:
            job.refusals.append(_unrunnable(draws.sizes(sizes, scale), further))
    limits: Limits = {}
    if runs[0].expected is not None:
        further_runs, limits = _turning(job, session, draws, scale, kind, short=FURTHER[0] in refused)
        runs += further_runs
    measured = runs[: len(MEASURED)]
    half = _is_half(job, runs[0])
    judge = Judge(job.model, session, [run.expected for run in measured if run.expected is not None], half=half)
    for run in runs:
        _compare(job, judge, run, HALF_TOLERANCE if half else TOLERANCE)
    values: tuple[str, ...] = ()
    if runs[0].expected is not None and not job.refusals:
        tolerance = HALF_TOLERANCE if half else TOLERANCE
        fewest = [run for run in runs if run.expected is not None and min(run.sizes.values(), default=1) >= _SEVERAL]
        usual = min(fewest or measured, key=lambda run: sum(array.size for array in run.inputs.values()))
        probed = [usual.inputs, *(run.inputs for run in measured if run is not usual)]
        values = Values(job, session, draws, judge, tolerance, probed, kind).compare()
    outputs = tuple(
        TensorInfo(name, array.dtype.name, _axes(name, runs, draws.roles)) for name, array in runs[0].outputs.items()
    )
    return Measured(outputs, tuple(measured), tuple(runs), session, draws, limits, judge, scale, kind, values)


def _turning(
    job: Job, session: ort.InferenceSession, draws: Draws, scale: int, kind: str, *, short: bool
) -> tuple[list[Run], Limits]:
    """The artifact beside the model far away, wherever the model's code turns, and where it ends to take sizes."""
    looped = set(job.capture.fixed_axes) - set(job.capture.told)
    usual = draws.sizes(_FULL, scale)
    questions, turns = searched(job, draws, scale, kind, usual, rows_of(draws, looped))
    # Long inputs are cheap where the model's own loop is native code. Keras runs it in Python: only where it must be.
    ends = questions.numbers if job.capture.fixed_axes else ()
    long = far(draws, looped, ends, questions) if job.capture.runs_python else []
    found, refused = _at_sizes(job, session, draws, long, _VARIED, scale, kind)
    turned, refused_too = _at_sizes(job, session, draws, turns.tried, _FULL, scale, kind)
    job.refusals += [untried(line) for line in turns.untried]
    beyond = {axis: size for axis, (size, _) in turns.limits.items()}
    above = smallest_above(usual, refused + refused_too)
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
    at_limits, _ = _at_sizes(job, session, draws, last, _FULL, scale, kind)
    return found + turned + at_limits, limits


def _at_sizes(
    job: Job, session: ort.InferenceSession, draws: Draws, turns: Sequence[Turn], sizes: Sizes, scale: int, kind: str
) -> tuple[list[Run], list[Turn]]:
    """The artifact beside the model at certain sizes, and those that the model refuses."""
    found: list[Run] = []
    refused: list[Turn] = []
    for turn in turns:
        run = _run(job, session, draws, sizes, scale, kind, turn=turn)
        if isinstance(run, _Refused) and run.by_model:  # perhaps not so long rows
            run = _run(job, session, draws, MEASURED[1], scale, kind, turn=turn)
        if isinstance(run, Run):
            found.append(run)
        elif run.undefined:
            continue  # values that grow beyond all bounds say nothing
        elif run.by_model:
            refused.append(turn)
        else:
            job.refusals.append(_unrunnable({**draws.sizes(sizes, scale), **turn.sizes}, run))
    return found, refused


@dataclass(frozen=True)
class _Refused:
    """Inputs that the model itself does not take, or that the artifact alone does not."""

    reason: str
    by_model: bool
    undefined: bool = False  # the model gives NaN alone


def _measured(job: Job, session: ort.InferenceSession, draws: Draws) -> tuple[list[Run], int, str]:
    """The probes that name axes, at the first scale and kind of values that the model takes.

    Raises:
        ExportError: the artifact runs at none of the probed shapes.
    """
    refused: _Refused | None = None
    for scale, kind in tries():
        found = [_run(job, session, draws, sizes, scale, kind) for sizes in MEASURED]
        runs = [item for item in found if isinstance(item, Run)]
        if len(runs) == len(found):
            return runs, scale, kind
        refused = refused or next(item for item in found if isinstance(item, _Refused))
    assert refused is not None
    if not refused.by_model:
        raise ExportError(f"the exported graph does not run at shapes that the trace never saw: {refused.reason}")
    job.refusals.append(
        Refusal(
            "the model",
            f"refuses every input drawn for the proof ({refused.reason})",
            "give example={name: array} with values that it takes",
        )
    )
    for scale, kind in tries():
        alone = [_run(job, session, draws, sizes, scale, kind, with_model=False) for sizes in MEASURED]
        if all(isinstance(item, Run) for item in alone):
            return [item for item in alone if isinstance(item, Run)], scale, kind
    raise ExportError(f"neither the model nor the exported graph runs on inputs drawn for it: {refused.reason}")


def _run(
    job: Job,
    session: ort.InferenceSession,
    draws: Draws,
    sizes: Sizes,
    scale: int,
    kind: str,
    *,
    with_model: bool = True,
    turn: Turn | None = None,
) -> Run | _Refused:
    axes = {**draws.sizes(sizes, scale), **(turn.sizes if turn else {})}
    arrays = draws.arrays(sizes, scale, kind, axes)
    if turn is not None:
        arrays = placed(draws, arrays, axes, turn.longest)
    expected: dict[str, np.ndarray] | None = None
    if with_model:
        try:
            # The model goes first: what it refuses (no steps left behind a slice) can end the process in ONNX Runtime.
            expected = job.capture.reference(arrays)
            require_answer(expected)
        except Exception as error:
            said = (str(error).strip() or "no message").splitlines()[0][:200]
            undefined = isinstance(error, NoAnswerError)
            return _Refused(f"{type(error).__name__}: {said}", by_model=True, undefined=undefined)
    names = [value.name or "" for value in job.model.graph.outputs]
    try:
        results = session.run(names, arrays)
    except Exception as error:
        return _Refused(str(error).strip(), by_model=False)
    outputs = {name: np.asarray(array) for name, array in zip(names, results, strict=True)}
    return Run(axes, arrays, expected, outputs, turn.line if turn else "")


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


def _compare(job: Job, judge: Judge, run: Run, tolerance: float) -> None:
    """The artifact against the user's own model, on the same inputs."""
    shapes = ", ".join(f"{axis}={size}" for axis, size in run.sizes.items())
    shapes += f", next to where {run.line} turns" if run.line else ""
    for name, expected in (run.expected or {}).items():
        found = run.outputs[name]
        gap = judge.difference(name, run.inputs, found, expected, tolerance, exact=False)
        if gap:
            job.refusals += [_soft(layer, mask) for layer, mask in job.soft_masks.items()]
            job.soft_masks.clear()
            job.refusals.append(
                Refusal(
                    f"output {name!r}",
                    f"differs from the model's own by {gap:.3g} (relative to each value) at {shapes}",
                    _FROZEN,
                )
            )


def _soft(layer: str, mask: str) -> Refusal:
    return Refusal(
        layer,
        f"is held by {mask!r}, numbers that need not be 0 and 1, which a native node takes for a mask",
        f"declare {mask!r} as bool and convert it in forward (mask.float()), or give example={{{mask!r}: ...}} of "
        "zeros and ones",
    )


def _unrunnable(sizes: dict[str, int], refused: _Refused) -> Refusal:
    shapes = ", ".join(f"{axis}={size}" for axis, size in sizes.items())
    return Refusal(
        "the exported graph",
        f"does not run at {shapes}, where the model does ({refused.reason})",
        _FROZEN,
    )


def _is_half(job: Job, run: Run) -> bool:
    """Whether the reference itself computes in half precision; PyTorch's is a float32 copy of such a model."""
    half = any(array.dtype == np.float16 for array in (run.expected or {}).values())
    half = half or any(note.endswith("float16") for note in job.capture.notes)
    return half and job.capture.convention != "pytorch"


def _axes(name: str, runs: list[Run], roles: Roles) -> tuple[str | int, ...]:
    shapes = [run.outputs[name].shape for run in runs]
    return tuple(_axis(name, i, [shape[i] for shape in shapes], runs, roles) for i in range(len(shapes[0])))


def _axis(name: str, position: int, found: list[int], runs: list[Run], roles: Roles) -> str | int:
    for axis in runs[0].sizes:
        if all(size == run.sizes[axis] for size, run in zip(found, runs, strict=True)):
            return axis
    for lengths in roles:
        if len(set(found)) > 1 and found == [int(run.inputs[lengths].max()) for run in runs]:
            return f"max_{lengths}"
    return found[0] if len(set(found)) == 1 else f"{name}_{position}"
