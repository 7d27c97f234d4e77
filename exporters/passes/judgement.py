"""Whether an answer of the artifact is the model's own.

Needs: answers of both to the same inputs. Guarantees: each element is judged by itself, by the scale of its own output
and column; NaN, +inf and -inf are three values; what differs by no more than rounding does is no difference.

A fixed tolerance must either excuse a wrong probability among 20,000, all of them below it, or refuse two right
answers that cancel to almost nothing. So the tolerance goes by scale, and where it is exceeded the artifact runs again
with every weight, input and product moved by about the last bit: what moves its answers as far is rounding.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx_ir as ir
import onnxruntime as ort

from seqport.exporters.passes.gaps import gaps, undefined
from seqport.exporters.passes.rounding import Rounding

Arrays = Mapping[str, np.ndarray]

# Two runtimes may overflow one step apart from here on: the rounding of a value is as large as the room above it.
_OVERFLOWS = 1e30
# So many elements of an answer are looked at at once.
_AT_ONCE = 2**22


class Scales:
    """The usual size of each output, column by column where its last axis is fixed.

    Args:
        answers: the model's own, one dict a probe.
    """

    def __init__(self, answers: Sequence[Arrays]) -> None:
        self._columns: dict[str, np.ndarray] = {}
        self._whole: dict[str, float] = {}
        self.with_nan = {name for each in answers for name, array in each.items() if _has_nan(array)}
        for name in answers[0] if answers else ():
            several = [np.asarray(each[name]) for each in answers if np.asarray(each[name]).dtype.kind == "f"]
            if not several:
                continue
            whole = self._whole[name] = max(map(_largest, several))
            ends = {array.shape[-1] for array in several if array.ndim > 1}
            if len(ends) == 1 and all(array.ndim > 1 for array in several):
                columns = np.max([_columns(array) for array in several], axis=0)
                self._columns[name] = np.where(columns > 0, columns, whole)

    def units(self, name: str, expected: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        """What differences of rows of an output are relative to: at most 1, or the element where that is larger."""
        usual, own = self._whole.get(name, 1.0), _largest(expected)
        columns = np.asarray(self._columns.get(name, usual), np.float64)
        if columns.ndim and columns.shape[0] != expected.shape[-1]:
            columns = np.asarray(usual)
        if 0 < own < usual:  # small values came in: what is small beside the usual may be all that there is
            columns = columns * (own / usual)
        sizes = np.where(columns > 0, np.minimum(1.0, columns), 1.0)

        def of(rows: np.ndarray) -> np.ndarray:
            with np.errstate(invalid="ignore"):
                return np.fmax(sizes, np.abs(rows.astype(np.float64)))

        return of


def overflowed(found: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Where two runtimes may differ because the model's own values have grown beyond float32.

    There, and at the elements beside them on the last axis, which infinities reach a step earlier or later.
    """
    if expected.dtype.kind != "f" or _largest(expected) < _OVERFLOWS:
        return np.zeros(expected.shape, bool)
    with np.errstate(invalid="ignore"):
        grown = ~np.isfinite(expected) | (np.abs(expected) > _OVERFLOWS)
        here = grown.any(axis=-1, keepdims=True) if expected.ndim else grown
        return here & (~np.isfinite(found) | (np.abs(found) > _OVERFLOWS))


def _has_nan(array: np.ndarray) -> bool:
    return bool(undefined(np.asarray(array)).any())


def _largest(array: np.ndarray) -> float:
    """The largest finite magnitude."""
    ends = [float(array.max()), -float(array.min())] if array.size else [0.0]
    if all(map(math.isfinite, ends)):
        return max(0.0, *ends)
    return float(np.abs(array[np.isfinite(array)]).max(initial=0.0))


def _columns(array: np.ndarray) -> np.ndarray:
    """The largest finite value of each column, [last axis]."""
    sizes = np.where(np.isfinite(array), np.abs(array), 0.0).astype(np.float64)
    return sizes.reshape(-1, array.shape[-1]).max(axis=0, initial=0.0)


class Judge:
    """Judges answers of one artifact.

    Args:
        model: the artifact.
        session: the same on ONNX Runtime.
        answers: the model's own at usual values, one dict a probe.
        half: whether the model computes in half precision, whose few digits tell nothing of what is smaller than 1.
    """

    def __init__(
        self, model: ir.Model, session: ort.InferenceSession, answers: Sequence[Arrays], *, half: bool = False
    ) -> None:
        self._scales, self._rounding, self._half = Scales(answers), Rounding(model, session), half

    def difference(
        self, name: str, inputs: Arrays, found: np.ndarray, expected: np.ndarray, tolerance: float, *, exact: bool
    ) -> float:
        """The largest difference of an output that is neither within the tolerance nor rounding; 0 where there is none.

        Args:
            name: of the output.
            inputs: that both answered.
            found: the artifact's answer.
            expected: the model's.
            tolerance: in units of the output's own scale.
            exact: the inputs are meant to the last bit.
        """
        if found.shape != expected.shape or found.dtype.kind != expected.dtype.kind:
            return float("inf")
        at, gap, apart = self._beyond(name, found, expected, tolerance)
        found, expected = found.reshape(-1)[at], expected.reshape(-1)[at]
        # Of an output that usually is a number: values have grown beyond all bounds, and runtimes part where they did.
        grown = not exact and name not in self._scales.with_nan
        wrong = ~undefined(expected) if grown else np.ones(at.size, bool)
        wrong_alike = wrong & ~(undefined(found) ^ undefined(expected))
        # Infinities come and go with the inputs' last bits: where they are meant, they stay.
        with_inputs = np.isfinite(gap) & (not exact)
        for inputs_too in (False, True):
            asked = np.flatnonzero(wrong_alike & (with_inputs == inputs_too))
            if asked.size:
                wrong[asked] = ~self._rounding.excuses(inputs, name, at[asked], apart[asked], inputs_too=inputs_too)
        return float(gap[wrong].max(initial=0.0))

    def _beyond(
        self, name: str, found: np.ndarray, expected: np.ndarray, tolerance: float
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Where an output is beyond the tolerance: places in it, the gaps there in units, and in its own numbers."""
        last = expected.shape[-1] if expected.ndim else 1
        rows, others = expected.reshape(-1, max(1, last)), found.reshape(-1, max(1, last))
        unit = self._unit(name, expected)
        parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        several = max(1, _AT_ONCE // max(1, last))
        for first in range(0, len(rows), several):
            block, other = rows[first : first + several], others[first : first + several]
            units = unit(block)
            gap = gaps(other, block, units)
            assert gap is not None  # of one shape and kind
            beyond = np.flatnonzero((gap > tolerance) & ~overflowed(other, block))
            with np.errstate(
                invalid="ignore"
            ):  # infinities that are the same are no distance apart, and not asked about
                apart = (gap * units).reshape(-1)[beyond]
            parts.append((beyond + first * max(1, last), gap.reshape(-1)[beyond], apart))
        whole = [np.concatenate(each) for each in zip(*parts, strict=True)]
        return (whole[0], whole[1], whole[2]) if parts else (np.zeros(0, np.int64), np.zeros(0), np.zeros(0))

    def _unit(self, name: str, expected: np.ndarray) -> Callable[[np.ndarray], np.ndarray | float]:
        """What differences of rows of an output are relative to."""
        if expected.dtype.kind != "f":
            return lambda _: 1.0
        if self._half:
            return lambda rows: np.fmax(1.0, np.abs(rows.astype(np.float64)))
        return self._scales.units(name, expected)
