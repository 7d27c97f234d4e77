"""Runs of the artifact beside the user's own model, at sizes and values that were drawn.

The model goes first: what it refuses says nothing of the artifact.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnxruntime as ort

from seqport.exporters.comparisons import Turn
from seqport.exporters.errors import ExportError, Refusal
from seqport.exporters.passes.draws import MEASURED, Draws, Sizes, tries
from seqport.exporters.passes.job import Job
from seqport.exporters.passes.limits import NoAnswerError, require_answer
from seqport.exporters.passes.placed import placed

FROZEN = "forward does something in Python that the trace froze, such as a branch on a size or on a step's number"


@dataclass(frozen=True)
class Run:
    """One probe: its sizes, its inputs, what the model gave (None: it refused them) and what the artifact gave.

    Large answers are not kept once they are compared; `shapes` says what there was.
    """

    sizes: dict[str, int]
    inputs: dict[str, np.ndarray]
    expected: dict[str, np.ndarray] | None
    outputs: dict[str, np.ndarray]
    shapes: dict[str, tuple[int, ...]]
    line: str = ""  # of the model's code that turns near these sizes


@dataclass(frozen=True)
class Refused:
    """Inputs that the model itself does not take, or that the artifact alone does not."""

    sizes: dict[str, int]
    reason: str
    by_model: bool
    undefined: bool = False  # the model gives NaN alone


class Runner:
    """Runs an artifact beside its model.

    Args:
        job: the export, with both.
        session: the artifact on ONNX Runtime.
        draws: of its inputs.

    Attributes:
        scale: of the sizes, at which the model takes drawn inputs, once `measured` has found it.
        kind: of the values that it takes.
    """

    def __init__(self, job: Job, session: ort.InferenceSession, draws: Draws) -> None:
        self._job, self._session, self._draws = job, session, draws
        self.scale, self.kind = next(iter(tries()))

    def measured(self) -> list[Run]:
        """The probes that name axes, at the first scale and kind of values that the model takes.

        Raises:
            ExportError: the artifact runs at none of the probed shapes.
        """
        refused: Refused | None = None
        for self.scale, self.kind in tries():
            found = [self.run(sizes) for sizes in MEASURED]
            runs = [item for item in found if isinstance(item, Run)]
            if len(runs) == len(found):
                return runs
            refused = refused or next(item for item in found if isinstance(item, Refused))
        assert refused is not None
        if not refused.by_model:
            raise ExportError(f"the exported graph does not run at shapes that the trace never saw: {refused.reason}")
        self._job.refusals.append(
            Refusal(
                "the model",
                f"refuses every input drawn for the proof ({refused.reason})",
                "give example={name: array} with values that it takes",
            )
        )
        for self.scale, self.kind in tries():
            alone = [self.run(sizes, with_model=False) for sizes in MEASURED]
            if all(isinstance(item, Run) for item in alone):
                return [item for item in alone if isinstance(item, Run)]
        raise ExportError(f"neither the model nor the exported graph runs on inputs drawn for it: {refused.reason}")

    def run(self, sizes: Sizes, *, with_model: bool = True, turn: Turn | None = None) -> Run | Refused:
        """One run.

        Args:
            sizes: of its axes, and how long its rows are.
            with_model: whether the model runs too.
            turn: sizes and lengths in their place.
        """
        axes = {**self._draws.sizes(sizes, self.scale), **(turn.sizes if turn else {})}
        arrays = self._draws.arrays(sizes, self.scale, self.kind, axes)
        if turn is not None:
            arrays = placed(self._draws, arrays, axes, turn.longest)
        expected: dict[str, np.ndarray] | None = None
        if with_model:
            try:
                # First: what the model refuses (no steps left behind a slice) can end the process in ONNX Runtime.
                expected = self._job.capture.reference(arrays)
                require_answer(expected)
            except Exception as error:
                said = (str(error).strip() or "no message").splitlines()[0][:200]
                undefined = isinstance(error, NoAnswerError)
                return Refused(axes, f"{type(error).__name__}: {said}", by_model=True, undefined=undefined)
        names = [value.name or "" for value in self._job.model.graph.outputs]
        try:
            results = self._session.run(names, arrays)
        except Exception as error:
            return Refused(axes, str(error).strip(), by_model=False)
        outputs = {name: np.asarray(array) for name, array in zip(names, results, strict=True)}
        shapes = {name: array.shape for name, array in outputs.items()}
        return Run(axes, arrays, expected, outputs, shapes, turn.line if turn else "")


def unrunnable(refused: Refused) -> Refusal:
    """What is said of sizes that the artifact alone does not take."""
    shapes = ", ".join(f"{axis}={size}" for axis, size in refused.sizes.items())
    return Refusal(
        "the exported graph",
        f"does not run at {shapes}, where the model does ({refused.reason})",
        FROZEN,
    )
