"""What the axes of an output are called.

Naming by measurement needs no faith in shape inference, and a baked axis cannot pass: each measured probe gives every
dynamic axis, and the largest length, a size of its own.
"""

from __future__ import annotations

from collections.abc import Sequence

from seqport.exporters.passes.draws import Roles
from seqport.exporters.passes.runs import Run


def axes_of(name: str, runs: Sequence[Run], roles: Roles) -> tuple[str | int, ...]:
    """The axes of an output: an input's where it has that size in every run, else a fixed size, or a name of its own.

    Args:
        name: of the output.
        runs: the probes.
        roles: lengths input → the axis that its values are bounded by.
    """
    shapes = [run.shapes[name] for run in runs]
    return tuple(_axis(name, i, [shape[i] for shape in shapes], runs, roles) for i in range(len(shapes[0])))


def _axis(name: str, position: int, found: list[int], runs: Sequence[Run], roles: Roles) -> str | int:
    for axis in runs[0].sizes:
        if all(size == run.sizes[axis] for size, run in zip(found, runs, strict=True)):
            return axis
    for lengths in roles:
        if len(set(found)) > 1 and found == [int(run.inputs[lengths].max()) for run in runs]:
            return f"max_{lengths}"
    return found[0] if len(set(found)) == 1 else f"{name}_{position}"
