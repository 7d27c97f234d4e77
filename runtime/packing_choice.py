"""Decides for each batch whether it runs packed, its padding left out, or as the file has it.

The packed form is made when the first batch comes that may gain from it, and measured then. Where the weights are few,
both forms stay, so that a single row runs as fast as in the file; where they are many, the packed form takes the place
of the other, so that they are held once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from seqport.runtime.artifact import Description
from seqport.runtime.layer_costs import BatchCost

if TYPE_CHECKING:
    import onnxruntime

# Up to so many bytes of weights are held in both forms: a page of a process that has loaded ONNX Runtime.
HELD_TWICE = 8 << 20
# Up to here Python's sum and max over a list are faster than two NumPy reductions.
_FEW_ROWS = 32


# A batch → the lengths of its rows; None where they are much work
LengthsOf = Callable[[Mapping[str, Any]], np.ndarray | None]


@dataclass(frozen=True)
class Prepared:
    """The packed form of a model.

    Attributes:
        session: opened.
        plans: of the layers that share lengths: how these follow from a batch, and what the layers cost.
        weights: bytes.
    """

    session: onnxruntime.InferenceSession
    plans: tuple[tuple[LengthsOf, BatchCost], ...]
    weights: int


class Choice:
    """Picks the form of the model for a batch. Safe to call from many threads.

    Args:
        plain: the model as the file has it.
        prepare: makes the packed form, or says why there is none.
        description: where the file has one; it tells which batches are worth the preparation.
        always: every batch runs packed, so the form is made at once.
        replaced: called with the packed form where it takes the other's place.

    Attributes:
        note: why no batch runs packed; empty where some may.
    """

    def __init__(
        self,
        plain: onnxruntime.InferenceSession,
        prepare: Callable[[], Prepared | str],
        description: Description | None,
        *,
        always: bool = False,
        replaced: Callable[[onnxruntime.InferenceSession], None] = lambda _: None,
    ) -> None:
        self._plain, self._replaced = plain, replaced
        self.note = ""
        self._prepare, self._always = prepare, always
        self._prepared: Prepared | None = None
        self._lock = threading.Lock()
        self._alone = False
        self._lengths = _lengths_of(description)
        self._sequence = _sequence_of(description)
        self._described = description is not None
        self._repays_alone = description is not None and any(info.op != "LSTM" for info in description.recurrent)
        if always:
            self._make()

    @property
    def packed(self) -> onnxruntime.InferenceSession | None:
        """The packed form, once it is there."""
        return self._prepared.session if self._prepared else None

    def session_for(self, feed: Mapping[str, Any]) -> onnxruntime.InferenceSession:
        """What is to run a checked batch."""
        if self.note:
            return self._plain
        prepared = self._prepared
        if prepared is None:
            if not self._may_gain(feed) or not self._lock.acquire(blocking=False):
                return self._plain  # while another thread prepares, nobody waits for it
            try:
                if self._prepared is None and not self.note:
                    self._make()
            finally:
                self._lock.release()
            prepared = self._prepared
            if prepared is None:
                return self._plain
        return prepared.session if self._always or self._pays(feed, prepared) else self._plain

    def stand_in(self, session: onnxruntime.InferenceSession) -> None:
        """Take another session for what runs unpacked; where the weights are many, nothing is packed beside it."""
        with self._lock:
            self._plain, self._alone = session, True
            if self._prepared and self._prepared.weights > HELD_TWICE:
                self._leave(self._prepared.weights)

    def _leave(self, weights: int) -> None:
        self._prepared = None
        self.note = (
            f"the session streams, and holds its {weights >> 20} MB of weights once: packing needs a session of its own"
        )

    def _make(self) -> None:
        try:
            made = self._prepare()
        except Exception as error:  # whatever it is, the file itself runs
            made = f"{type(error).__name__}: {error}"
        if isinstance(made, str):
            self.note = made
            return
        if made.weights > HELD_TWICE and self._alone:
            self._leave(made.weights)
            return
        if made.weights > HELD_TWICE:
            self._plain = made.session
            self._replaced(made.session)
        self._prepared = made

    def _may_gain(self, feed: Mapping[str, Any]) -> bool:
        """Whether a batch is of a kind that packing has something to leave out of, or computes otherwise."""
        lengths = [feed[name] for name in self._lengths]
        if not self._described:  # a vector of whole numbers may well be lengths
            lengths = [value for value in feed.values() if getattr(value, "ndim", 0) == 1 and value.dtype.kind in "iu"]
        elif not lengths:
            return self._shape(feed)[0] > 1
        if self._repays_alone and any(value.size > 1 for value in lengths):
            return True
        extents = [(value.size, *_extent(value)) for value in lengths if value.size > 1]
        return any(total < rows * longest for rows, longest, total in extents)

    def _shape(self, feed: Mapping[str, Any]) -> tuple[int, int]:
        """The rows and steps of a described batch; 0 where nothing says."""
        name, batch, steps = self._sequence
        shape = feed[name].shape if name in feed else ()
        return (shape[batch], shape[steps]) if shape else (0, 0)

    def _pays(self, feed: Mapping[str, Any], prepared: Prepared) -> bool:
        for lengths_of, cost in prepared.plans:
            value = lengths_of(feed)
            if value is None:  # nobody knows: it must not cost much where there is no padding at all
                rows, steps = self._shape(feed)
                if rows > 1 and cost.packing_is_free(rows, steps):
                    return True
            elif value.size and cost.packing_pays(value.size, *_extent(value)):
                return True
        return False


def _extent(lengths: np.ndarray) -> tuple[int, int]:
    """The longest row, and the steps of all rows."""
    if lengths.size <= _FEW_ROWS:
        values = lengths.ravel().tolist()
        return max(values), sum(values)
    return int(lengths.max()), int(lengths.sum())


def _lengths_of(description: Description | None) -> tuple[str, ...]:
    """The inputs that hold lengths; none where one layer's are computed."""
    if description is None:
        return ()
    names = {info.lengths for info in description.recurrent if info.lengths}
    # "mask" stands for a computed length, and may be the name of an input too.
    inputs = {sequence.lengths for sequence in description.sequences}
    return tuple(sorted(names)) if names <= inputs else ()


def _sequence_of(description: Description | None) -> tuple[str, int, int]:
    """An input that is a sequence, and the positions of its batch axis and of its steps."""
    for sequence in description.sequences if description else ():
        for info in description.inputs if description else ():
            if info.name in sequence.inputs and sequence.batch_axis in info.axes:
                return info.name, info.axes.index(sequence.batch_axis), sequence.inputs[info.name]
    return "", 0, 0
