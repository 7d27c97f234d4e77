"""Which outputs have the steps of an axis whose size is fixed: their axes have no name to tell it by.

Needs: an artifact, and the lengths of such an axis. Guarantees: an axis of an output is named only where the rows' own
steps move what stands there before their lengths, and behind these nothing that moves is new.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnxruntime as ort

from seqport.exporters.signature import Input
from seqport.runtime.artifact import TensorInfo

Arrays = Mapping[str, np.ndarray]


def outputs_along(
    session: ort.InferenceSession,
    inputs: Sequence[Input],
    outputs: Sequence[TensorInfo],
    arrays: Arrays,
    lengths: str,
    size: int,
) -> dict[str, int]:
    """Each output that has the steps, with the position of their axis.

    Args:
        session: runs the artifact.
        inputs: what goes in.
        outputs: what comes out.
        arrays: inputs of a probe, of several rows.
        lengths: the input that counts the steps.
        size: of their axis.
    """
    batch = next(item.axes[0] for item in inputs if item.name == lengths)
    places = {
        info.name: [place for place, axis in enumerate(info.axes) if axis == size]
        for info in outputs
        if batch in info.axes
    }
    rows = arrays[lengths].shape[0]
    counts = sorted({steps for steps in (size // 2, size - 1) if steps >= 1})
    if rows < 2 or not counts or not any(places.values()):
        return {}
    for steps in counts:
        feeds = [_rolled(inputs, arrays, lengths, batch, size, steps, by) for by in range(rows)]
        try:
            answers = [session.run(list(places), feed) for feed in feeds]
        except Exception:  # the model takes no such lengths
            return {}
        for name, several in zip(places, zip(*answers, strict=True), strict=True):
            stacked = np.stack([np.asarray(answer) for answer in several])
            places[name] = [p for p in places[name] if _holds_steps(np.moveaxis(stacked, p + 1, 0), steps)]
    return {name: found[0] for name, found in places.items() if len(found) == 1}


def _rolled(
    inputs: Sequence[Input], arrays: Arrays, lengths: str, batch: str | int, size: int, steps: int, by: int
) -> dict[str, np.ndarray]:
    """Every row with the first steps of another, and its own padding."""
    found = {**arrays, lengths: np.full_like(arrays[lengths], steps)}
    for item in inputs:
        if item.name == lengths or batch not in item.axes or size not in item.axes:
            continue
        array = found[item.name] = arrays[item.name].copy()
        by_step = np.moveaxis(array, (item.axes.index(size), item.axes.index(batch)), (0, 1))  # a view
        by_step[:steps] = np.roll(by_step[:steps], by, axis=1)
    return found


def _holds_steps(answers: np.ndarray, steps: int) -> bool:
    """Whether answers [steps, several, ...] move up to the last step, and behind it stay or repeat that one."""
    last, padding = answers[steps - 1], answers[steps:]
    return _moves(last) and all(not _moves(each) or _same(each, last) for each in padding)


def _moves(answers: np.ndarray) -> bool:
    return not all(_same(answers[0], other) for other in answers[1:])


def _same(one: np.ndarray, other: np.ndarray) -> bool:
    return np.array_equal(one, other, equal_nan=one.dtype.kind == "f")
