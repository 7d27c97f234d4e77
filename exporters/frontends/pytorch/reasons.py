"""Why a module cannot be traced, in the words of its own code."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from pathlib import Path

from seqport.exporters.errors import ExportError, InputsError, refusal_behind
from seqport.exporters.signature import Input

_OURS = Path(__file__).resolve().parents[2]


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
    return ExportError(
        f"PyTorch cannot trace the module: {type(error).__name__}: {reason}{_place(error)}. "
        "Remedy: keep forward free of Python values taken from tensors (.item(), .tolist(), int(...), "
        "if on a tensor, a loop over lengths), or run those parts outside the exported module; a loop over time "
        "runs over range(x.size(1)) or range(int(lengths.max())), and keeps its states with "
        "torch.where((t < lengths)[:, None], new, old)"
    )


def _place(error: Exception) -> str:
    """The last line of the user's own code on the way to the error."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = Path(frame.filename)
        if "torch" not in path.parts and _OURS not in path.resolve().parents and "<" not in frame.filename:
            return f" (at {path.name}:{frame.lineno}, {frame.line})"
    return ""
