"""NaN among the inputs: refused where the model would answer it with a number, which ONNX Runtime's nodes do."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from seqport.runtime.artifact import Description, SequenceInfo, TensorInfo
from seqport.runtime.errors import InputValueError, KernelsError

NAN = ("error", "propagate", "as-onnxruntime")
REFUSE, PROPAGATE, AS_ONNXRUNTIME = NAN
Hides = Callable[[], str]


class NanRule:
    """What becomes of NaN, for one session.

    Args:
        wanted: one of NAN; None chooses "propagate" where nothing hides NaN and "error" where something does, and
            "as-onnxruntime" for a file that says nothing of itself, which has no other model to be true to.
        description: of the artifact, where it has one; says which steps are padding.

    Attributes:
        mode: one of NAN.
        checks: whether inputs are looked at.

    Raises:
        KernelsError: `wanted` is none of these.
    """

    def __init__(self, wanted: str | None, description: Description | None) -> None:
        if wanted not in (None, *NAN):
            raise KernelsError(f"nan is {wanted!r}, expected one of {', '.join(map(repr, NAN))}, or None")
        self._wanted, self._description = wanted, description
        # Of a plain file every input is looked at.
        inputs = description.inputs if description is not None else ()
        self._floats = None if description is None else [i.name for i in inputs if i.dtype.startswith("float")]
        self.mode = wanted or (AS_ONNXRUNTIME if description is None else PROPAGATE)
        self._reads: Hides = lambda: ""
        self.checks = False

    def decide(self, hidden_by: str | None, reads: Hides) -> None:
        """Choose anew, for the form of the model that runs.

        Args:
            hidden_by: the first node that turns NaN into a number, "" for none; None where nobody has looked yet.
            reads: looks; called for "propagate", and before NaN is refused.

        Raises:
            KernelsError: "propagate" was asked for, and a node hides NaN.
        """
        self._reads = reads
        if self._wanted == PROPAGATE and (node := reads() if hidden_by is None else hidden_by):
            raise KernelsError(
                f'nan="propagate" cannot be promised: ONNX Runtime\'s {node} turns NaN into a number; '
                'nan="error" refuses NaN in the inputs'
            )
        if self._wanted is None and self._description is not None:
            self.mode = PROPAGATE if hidden_by == "" else REFUSE
        self.checks = self.mode == REFUSE

    def check(self, feed: Mapping[str, Any], *, listed: bool = False) -> None:
        """Refuse NaN in a batch, at steps that are none of the padding.

        Args:
            feed: checked inputs.
            listed: it is a list, which has no padding.

        Raises:
            InputValueError: names the input, the row and the step.
        """
        for name in feed if self._floats is None else self._floats:
            array = feed[name]
            if _has_nan(array):
                place = _first(self._counted(name, feed) & np.isnan(array) if not listed else np.isnan(array))
                if place is not None:
                    self._refuse(name, place)

    def check_row(self, arrays: Mapping[str, np.ndarray], steps: Mapping[str, int]) -> None:
        """The same for a chunk, whose arrays have no batch axis; `steps` maps an input to its axis of steps."""
        for name, array in arrays.items():
            if _has_nan(array) and (place := _first(np.isnan(array))) is not None:
                self._refuse(name, place, f"step {place[steps[name]]}" if name in steps else "")

    def _refuse(self, name: str, place: tuple[int, ...], where: str | None = None) -> None:
        node = "" if self._wanted else self._reads()
        if not self._wanted and not node:  # nothing hides NaN after all
            self.mode, self.checks = PROPAGATE, False
            return
        said = self._said(name, place) if where is None else where
        why = 'nan="error" refuses it' if self._wanted else f"ONNX Runtime's {node} would turn it into a number"
        raise InputValueError(
            f"input {name!r} holds NaN at {', '.join(filter(None, (said, f'index {list(place)}')))}, and {why}: "
            "replace what is missing; NaN may stand in the padding alone"
        )

    def _said(self, name: str, place: tuple[int, ...]) -> str:
        info, sequence = self._of(name)
        if info is None:
            return ""
        said = []
        batch = sequence.batch_axis if sequence else info.axes[0] if info.axes else None
        if batch in info.axes:
            said.append(f"row {place[info.axes.index(batch)]}")
        if sequence:
            said.append(f"step {place[sequence.inputs[name]]}")
        return ", ".join(said)

    def _of(self, name: str) -> tuple[TensorInfo | None, SequenceInfo | None]:
        described = self._description
        if described is None:
            return None, None
        info = next((info for info in described.inputs if info.name == name), None)
        return info, next((sequence for sequence in described.sequences if name in sequence.inputs), None)

    def _counted(self, name: str, feed: Mapping[str, Any]) -> np.ndarray | bool:
        """Which elements are none of the padding, as a mask that broadcasts to the input."""
        info, sequence = self._of(name)
        if info is None or sequence is None or sequence.batch_axis not in info.axes:
            return True
        batch, steps = info.axes.index(sequence.batch_axis), sequence.inputs[name]
        size, order = feed[name].shape[steps], [batch, steps]
        counted = np.ones((feed[name].shape[batch], size), bool)
        if sequence.lengths is not None and sequence.lengths in feed:
            counted &= np.arange(size) < np.asarray(feed[sequence.lengths]).reshape(-1, 1)
        for other in self._description.inputs if self._description else ():
            if other.dtype == "bool" and other.name in feed and set(other.axes) == {info.axes[batch], info.axes[steps]}:
                mask = np.asarray(feed[other.name])
                counted &= mask if other.axes[0] == info.axes[batch] else mask.T
        shape = [1] * feed[name].ndim
        shape[batch], shape[steps] = counted.shape
        return (counted if order == sorted(order) else counted.T).reshape(shape)


def _has_nan(array: Any) -> bool:
    """Whether a float array holds NaN: its least element is NaN then. 1 µs, and 13 µs a megabyte."""
    return type(array) is np.ndarray and array.dtype.kind == "f" and array.size > 0 and math.isnan(array.min())


def _first(where: np.ndarray) -> tuple[int, ...] | None:
    return tuple(np.argwhere(where)[0].tolist()) if where.any() else None
