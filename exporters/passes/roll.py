"""Loops over time that a module wrote itself, rolled back: what was traced step by step is computed over all steps.

Needs: a graph that was unrolled at a traced number of steps that no other size of the graph equals.
Guarantees: every recurrence is one neutral recurrent node over the whole time axis, what was computed per step is
computed over that axis, and the traced number of steps is gone from the graph.
"""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes import common

from seqport.exporters.cell import is_cell
from seqport.exporters.errors import RefusedError
from seqport.exporters.passes.generalise import generalise, generalise_arithmetic, sizes_in_arithmetic
from seqport.exporters.passes.job import Job
from seqport.exporters.recurrent import DOMAIN, VERSION, RecurrentCall
from seqport.exporters.rolling.roller import Roller
from seqport.exporters.rolling.single import lower_single_steps
from seqport.exporters.rolling.straighten import straighten
from seqport.exporters.rolling.terms import NotRollable

_REMEDY = "use nn.RNN, nn.GRU or nn.LSTM over the whole sequence instead of the cell in a loop"


def roll_loops(job: Job) -> None:
    """Roll every loop of the model that was unrolled.

    Raises:
        RefusedError: a loop cannot be rolled back; unrolled, the file would hold for the traced length alone.
    """
    graph = job.model.graph
    if job.capture.fixed_axes:
        job.model.opset_imports.setdefault(DOMAIN, VERSION)
        _as_traced(job)
        try:
            _roll(job)
            numbers = sizes_in_arithmetic(job)
            if numbers and (other := _elsewhere(job)) is not None:
                generalise_arithmetic(job, other, numbers)
            generalise(job)
        except NotRollable as reason:
            layer = reason.layer or _first_cell(graph)
            if not layer and not reason.remedy:  # no recurrence that anybody would know: a loop over rows, perhaps
                raise _fixed(job, f"; it cannot be rolled back: {reason}") from reason
            layer = layer or "the model"
            raise RefusedError(
                layer, f"runs in a Python loop that cannot be rolled back: {reason}", reason.remedy or _REMEDY
            ) from reason
        del graph.outputs[len(graph.outputs) - len(job.capture.told) :]
    lower_single_steps(job.model)


def _roll(job: Job) -> None:
    """Roll what runs over one axis, then over the next: words, and the characters of all words."""
    rollers: list[Roller] = []
    for _ in job.capture.fixed_axes:
        straighten(job.model)
        rollers.append(Roller(job))
        found = rollers[-1].run()
        if not found and len(rollers) == 1:
            rollers[0].require_rolled()
            raise _fixed(job)
        common.RemoveUnusedNodesPass()(job.model)
        if not found:
            break
    for roller in rollers:
        roller.require_rolled()


def _elsewhere(job: Job) -> Job | None:
    """The job of the same model, traced at other sizes and rolled; None where that does not come about."""
    if job.capture.elsewhere is None:
        return None
    other = Job(job.capture.elsewhere(), job.opset, job.strict)
    if other.capture.fixed_axes.keys() != job.capture.fixed_axes.keys():
        return None
    other.model.opset_imports.setdefault(DOMAIN, VERSION)
    _as_traced(other)
    _roll(other)
    return other


def _as_traced(job: Job) -> None:
    """Give the inputs the sizes that the trace fixed; they are declared dynamic again at the end."""
    for value, item in zip(job.model.graph.inputs, job.capture.inputs, strict=True):
        sizes = [job.capture.fixed_axes.get(axis, axis) if isinstance(axis, str) else axis for axis in item.axes]
        value.shape = ir.Shape(sizes)


def _fixed(job: Job, why: str = "") -> RefusedError:
    """The refusal of a model whose trace fixed an axis by something else than a loop."""
    axis = next(iter(job.capture.fixed_axes))
    if axis in job.capture.told:
        return RefusedError(
            "the model",
            f"takes max(lengths), or another largest value of a tensor, as a Python number{why}",
            "keep it a tensor, or use it as the bound of a loop over time steps alone",
        )
    name = next(item.name for item in job.capture.inputs if axis in item.dynamic_axes.values())
    return RefusedError(
        "the model",
        f"fixes axis {axis!r} of input {name!r} while it is traced (a Python loop over it does: over time steps, "
        f"rows or lengths{why})",
        "use nn.RNN, nn.GRU or nn.LSTM for a loop over time, and tensors for a loop over rows "
        "(torch.arange(x.size(1)) < lengths[:, None] for a mask, y[torch.arange(y.size(0)), lengths - 1] for the last "
        f"steps), or declare the axis with its fixed size instead of {axis!r}",
    )


def _first_cell(graph: ir.Graph) -> str:
    return next((RecurrentCall.from_node(node).layer for node in graph if is_cell(node)), "")
