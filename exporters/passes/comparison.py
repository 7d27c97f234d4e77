"""The artifact's answers against the model's, run by run, and what is said where they differ."""

from __future__ import annotations

from seqport.exporters.errors import Refusal
from seqport.exporters.passes.job import Job
from seqport.exporters.passes.judgement import Judge
from seqport.exporters.passes.runs import FROZEN, Run


class Comparison:
    """The artifact against the user's own model, on the same inputs; a line that turns, or none, is refused once.

    Args:
        job: the export, whose refusals are added to.
        judge: of its answers.
        tolerance: in units of each output's own scale.
    """

    def __init__(self, job: Job, judge: Judge, tolerance: float) -> None:
        self._job, self._judge, self._tolerance = job, judge, tolerance
        self.lines: set[str] = set()  # near which it differs; "" at sizes where nothing is known to turn

    def compare(self, run: Run) -> None:
        """Refuse the artifact where it differs."""
        shapes = ", ".join(f"{axis}={size}" for axis, size in run.sizes.items())
        shapes += f", next to where {run.line} turns" if run.line else ""
        for name, expected in (run.expected or {}).items():
            found = run.outputs[name]
            gap = self._judge.difference(name, run.inputs, found, expected, self._tolerance, exact=False)
            if gap:
                self.lines.add(run.line)
                self._job.refusals += [_soft(layer, mask) for layer, mask in self._job.soft_masks.items()]
                self._job.soft_masks.clear()
                self._job.refusals.append(
                    Refusal(
                        f"output {name!r}",
                        f"differs from the model's own by {gap:.3g} (relative to each value) at {shapes}",
                        FROZEN,
                    )
                )


def _soft(layer: str, mask: str) -> Refusal:
    return Refusal(
        layer,
        f"is held by {mask!r}, numbers that need not be 0 and 1, which a native node takes for a mask",
        f"declare {mask!r} as bool and convert it in forward (mask.float()), or give example={{{mask!r}: ...}} of "
        "zeros and ones",
    )
