"""Batches as lists: their valid steps alone, one row behind the other, so that nothing is padded on the way either.

seqport's operators take a list where a batch has one row and its lengths are of more. A model does where nothing else
in it looks at more than one step (`rewriting.list_safe`); before the first list that is tried too, on made-up rows,
beside the padded batch.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from seqport.runtime.artifact import Description
from seqport.runtime.convert import numpy_dtype
from seqport.runtime.copying import copies
from seqport.runtime.options import Answer, Run
from seqport.runtime.packing import Slot

if TYPE_CHECKING:
    import onnxruntime

# Rows of these many steps are tried.
_TRIALS = ((5, 2, 4), (1, 3))
# Of an axis that has nothing to do with the steps.
_OTHER = 3
# Other than recurrent layers may sum in an order that depends on how many steps there are.
_CLOSE = 1e-5


class Listed(dict[str, Any]):
    """The inputs of a batch as a list; `Session.run` takes them unchecked.

    Attributes:
        session: ONNX Runtime's, which takes lists.
    """

    session: onnxruntime.InferenceSession


class Lists:
    """How the rows of one model make lists.

    Args:
        inputs: the model's inputs beside the lengths.
        outputs: its outputs.
        lengths: the name and type of its lengths.
        threads: so many may copy answers.
    """

    def __init__(
        self,
        inputs: Mapping[str, Slot],
        outputs: Mapping[str, Slot],
        lengths: tuple[str, np.dtype, int],
        threads: int = 1,
    ) -> None:
        self._inputs, self._outputs = inputs, outputs
        self._lengths, self._lengths_dtype, self._lengths_rank = lengths
        self._threads = threads
        self._tried: tuple[Callable[[], object], bool] = (lambda: None, False)

    @classmethod
    def of(
        cls, description: Description, inputs: Mapping[str, Slot], outputs: Mapping[str, Slot], threads: int = 1
    ) -> Lists | None:
        """For models of one sequence with lengths, and no limits; None for others."""
        if len(description.sequences) != 1 or description.limits or description.zeros_and_ones:
            return None
        (sequence,) = description.sequences
        if sequence.padding_value:  # the model may look at the padding itself
            return None
        info = next((info for info in description.inputs if info.name == sequence.lengths), None)
        dtype = numpy_dtype(info.dtype) if info else None
        slots = [slot for slot in (*inputs.values(), *outputs.values()) if slot.sequence]
        if info is None or dtype is None or not all(slot.padded and slot.limit is None for slot in slots):
            return None
        return cls(inputs, outputs, (info.name, dtype, len(info.axes)), threads)

    def answers(
        self,
        session: onnxruntime.InferenceSession,
        run: Run,
        columns: Sequence[Sequence[np.ndarray]],
        lengths: Sequence[int],
    ) -> list[Answer]:
        """Run some rows as a list.

        Args:
            session: that takes lists.
            run: runs it.
            columns: an array a row, for each input.
            lengths: of the rows.
        """
        feed = self.feed(columns, lengths)
        feed.session = session
        return self.cut(run(feed), lengths)

    def feed(self, columns: Sequence[Sequence[np.ndarray]], lengths: Sequence[int]) -> Listed:
        """The list of some rows; an array a row for each input."""
        feed = Listed()
        for (name, slot), rows in zip(self._inputs.items(), columns, strict=True):
            if slot.sequence:
                feed[name] = np.expand_dims(np.concatenate(rows, axis=slot.row_steps), slot.batch)
            else:
                feed[name] = slot.pack(rows, 0)
        feed[self._lengths] = np.array(lengths, self._lengths_dtype).reshape(-1, *[1] * (self._lengths_rank - 1))
        return feed

    def cut(self, outputs: Mapping[str, np.ndarray], lengths: Sequence[int]) -> list[Answer]:
        """What a list answered, by row. Copies: a view would keep the whole list in memory."""
        answers: list[Answer] = [{} for _ in lengths]
        ends = np.cumsum(lengths).tolist()
        for name, slot in self._outputs.items():
            if slot.sequence:
                steps = outputs[name].squeeze(slot.batch)
                along = (slice(None),) * slot.row_steps
                views = [steps[(*along, slice(end - n, end))] for end, n in zip(ends, lengths, strict=True)]
                rows = copies(views, self._threads)
            else:
                rows = slot.cut(outputs[name], (), self._threads)
            for answer, row in zip(answers, rows, strict=True):
                answer[name] = row
        return answers

    def taken_by(self, session: onnxruntime.InferenceSession) -> bool:
        """Whether a model, in which nothing was found that looks at several steps, takes lists; tried once for each."""
        if self._tried[0]() is not session:
            agrees = all(self._agrees(session, lengths) for lengths in _TRIALS)
            self._tried = (weakref.ref(session), agrees)
        return self._tried[1]

    def _agrees(self, session: onnxruntime.InferenceSession, lengths: Sequence[int]) -> bool:
        random = np.random.default_rng(len(lengths))
        names = list(self._outputs)
        try:
            columns = [[_row(slot, steps, random) for steps in lengths] for slot in self._inputs.values()]
            feed = self.feed(columns, lengths)
            padded = dict(feed)
            for (name, slot), rows in zip(self._inputs.items(), columns, strict=True):
                padded[name] = slot.pack(rows, max(lengths))
            expected, found = (
                dict(zip(names, map(np.asarray, session.run(names, one)), strict=True)) for one in (padded, dict(feed))
            )
            answers = self.cut(found, lengths)
        except Exception:  # whatever it is, padded batches go on
            return False
        rows = {name: slot.cut(expected[name], lengths) for name, slot in self._outputs.items()}
        return all(
            answer[name].shape == rows[name][place].shape
            and np.allclose(answer[name], rows[name][place], rtol=_CLOSE, atol=_CLOSE)
            for place, answer in enumerate(answers)
            for name in rows
        )


def _row(slot: Slot, steps: int, random: np.random.Generator) -> np.ndarray:
    """A made-up row: normal numbers, or ids, which are at least 0 and 1 in any table."""
    along = slot.row_steps if slot.sequence else -1
    shape = [
        axis if isinstance(axis, int) else steps if place == along else _OTHER
        for place, axis in enumerate(slot.row_axes)
    ]
    dtype = numpy_dtype(slot.info.dtype)
    if dtype is not None and dtype.kind == "f":
        return random.normal(size=shape).astype(dtype)
    return random.integers(0, 2, shape).astype(dtype or np.int64)
