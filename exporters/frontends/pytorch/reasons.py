"""Why a module cannot be traced, in the words of its own code."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from seqport.exporters.errors import ExportError, InputsError, RefusedError, refusal_behind
from seqport.exporters.signature import Input

# How torch.export says where a value of a tensor was wanted: "Caused by: (_export/..." or "File model.py:12 in forward".
_PLACE = re.compile(r"Caused by: .*?# (\S+?:\d+) in (\w+)")


def explained(error: Exception, inputs: Sequence[Input]) -> ExportError:
    """The refusal that a capture raised, wherever the tracer has wrapped it; else the tracer's own words."""
    if (refusal := refusal_behind(error)) is not None:
        return refusal
    if isinstance(error, ExportError):
        return error
    reason = str(error).strip().split("\n\n")[0]
    if isinstance(error, TypeError) and "argument" in reason:
        names = ", ".join(item.name for item in inputs)
        return InputsError(f"forward does not take the declared inputs ({names}): {reason}")
    place = _PLACE.search(str(error))
    where = f" ({place.group(1)}, in {place.group(2)})" if place else ""
    return ExportError(
        f"PyTorch cannot trace the module{where}: {type(error).__name__}: {reason}. "
        "Remedy: keep forward free of Python values taken from tensors (.item(), .tolist(), int(...), "
        "if on a tensor, a loop over lengths), or run those parts outside the exported module"
    )


def fixed_axis(axes: Mapping[str, int], inputs: Sequence[Input]) -> RefusedError:
    """The refusal of a trace that made a dynamic axis a constant."""
    axis = next(iter(axes))
    name = next(item.name for item in inputs if axis in item.axes)
    return RefusedError(
        "the model",
        f"fixes axis {axis!r} of input {name!r} while it is traced (a Python loop over it does: over time steps, "
        "rows or lengths)",
        "use nn.RNN, nn.GRU or nn.LSTM for a loop over time, and tensors for a loop over rows "
        "(torch.arange(x.size(1)) < lengths[:, None] for a mask, y[torch.arange(y.size(0)), lengths - 1] for the last "
        f"steps), or declare the axis with its fixed size instead of {axis!r}",
    )
