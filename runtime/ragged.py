"""Answers sequences of any lengths: reads them ahead, groups them into batches, and keeps their order."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from itertools import chain
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from seqport.runtime.artifact import Description
from seqport.runtime.cost import RunCost
from seqport.runtime.errors import InputError
from seqport.runtime.grouping import cuts, even_cuts, samples
from seqport.runtime.listed import Lists
from seqport.runtime.options import Answer, Options, Run
from seqport.runtime.packing import Footprint, Slot, axis_name, batch_axis_of
from seqport.runtime.rows import RowReader, Rows, of_item
from seqport.runtime.windows import ReadAhead, Window

if TYPE_CHECKING:
    import onnxruntime

# What runs, an array a row for each input, the lengths → an answer a row
AnswerList = Callable[[Run, list[list[np.ndarray]], list[int]], list[Answer]]

# From so many rows on, some runs for the sake of learning what runs cost are worth what they take.
_WORTH_SAMPLES = 64


class RaggedBatches:
    """How the rows of one model share batches. Safe to use from many threads.

    A sequence with lengths, or one that the model masks by its data, is padded. Along any other
    dynamic axis nothing tells padding from data, so only rows of one size share a batch.

    Args:
        description: of the model.
        clock: seconds, for the cost of runs.
        taking_lists: ONNX Runtime's session where its recurrent layers take lists (see `listed`); else None.
        threads: so many may copy answers out of a batch.

    Raises:
        ArtifactError: a tensor has no batch axis, so rows cannot be put together.
    """

    def __init__(
        self,
        description: Description,
        clock: Callable[[], float] = perf_counter,
        taking_lists: Callable[[], onnxruntime.InferenceSession | None] = lambda: None,
        threads: int = 1,
    ) -> None:
        sequences = description.sequences
        batch_axis = batch_axis_of(description)
        axis_of = {sequence.lengths: axis_name(sequence) for sequence in sequences if sequence.lengths}
        padded = {name: (sequence, axis) for sequence in sequences for name, axis in sequence.inputs.items()}
        trimmed = {name: (sequence, axis) for sequence in sequences for name, axis in sequence.outputs.items()}
        self._lengths = [info for info in description.inputs if info.name in axis_of]
        self._inputs = {
            info.name: Slot.of(info, batch_axis, padded) for info in description.inputs if info.name not in axis_of
        }
        self._outputs = {info.name: Slot.of(info, batch_axis, trimmed) for info in description.outputs}
        states = {state.input for state in description.states}
        self._reader = RowReader(self._inputs, [info.name for info in self._lengths], states)
        axes = self._reader.axes
        self._length_axes = [axes.index(axis_of[info.name]) for info in self._lengths]
        self._input_axes = [_axis_of(slot, axes) for slot in self._inputs.values()]
        self._output_axes = [_axis_of(slot, axes) for slot in self._outputs.values()]
        self._independent = description.rows_independent
        self._threads = threads
        self._lists = Lists.of(description, self._inputs, self._outputs, threads)
        self._footprint = Footprint([*self._inputs.values(), *self._outputs.values()])
        self._ahead = ReadAhead(self._reader, self._footprint)
        self._clock = clock
        self._taking_lists = taking_lists
        self.cost = RunCost()

    def predict(self, run: Run, items: Iterable[Any], options: Options) -> list[Answer | InputError]:
        """See `Session.predict`."""
        return list(self.stream(run, items, options))

    def stream(self, run: Run, items: Iterable[Any], options: Options) -> Iterator[Answer | InputError]:
        """See `Session.predict_iter`."""
        return chain.from_iterable(self.parts(run, items, options))

    def parts(self, run: Run, items: Iterable[Any], options: Options) -> Iterator[list[Answer | InputError]]:
        """The same, as many at once as were read ahead."""
        total = None
        with suppress(TypeError):
            total = len(items)  # type: ignore[arg-type] - a generator has none
        listed = items if isinstance(items, list | tuple) else None
        iterator, done, ended = iter(items), 0, False
        while not ended:
            if listed is not None:
                window = self._ahead.of_list(listed[done : done + options.read_ahead], done, options)
            else:
                window = self._ahead.of_iterator(iterator, done, options)
            self._answer(run, window, total, options)
            answers, failure = window.answers, window.failure
            if options.on_error == "raise":
                refused = next((place for place, one in enumerate(answers) if isinstance(one, InputError)), None)
                if refused is not None:
                    answers, failure = answers[:refused], answers[refused]
            yield answers
            if failure:
                raise failure
            done, ended = done + len(window.answers), window.ended

    def _answer(self, run: Run, window: Window, total: int | None, options: Options) -> None:
        """Fill in the answers of a window, and say after each batch how many there are."""
        wrong = len(window.answers) - len(window.rows.indices)
        done = window.start + wrong
        if wrong and options.progress:
            options.progress(done, total)
        lists = self._taken_lists()
        for batch in self._batches(window.rows, options, even=lists is not None):
            places = [window.rows.indices[row] - window.start for row in batch]
            for place, answer in zip(places, self._answers(run, window.rows, batch, lists), strict=True):
                if isinstance(answer, InputError) and options.on_error == "raise" and not options.in_order:
                    raise answer
                window.answers[place] = answer
            done += len(batch)
            if options.progress:
                options.progress(done, total)

    def _answers(self, run: Run, rows: Rows, batch: list[int], lists: AnswerList | None = None) -> list[Any]:
        """What a batch answers; where the model refuses it, what each of its rows does alone."""
        try:
            return self._run(run, rows, batch, lists)
        except InputError as error:
            if len(batch) == 1:
                return [of_item(rows.indices[batch[0]], error)]
        return [answer for row in batch for answer in self._answers(run, rows, [row])]

    def _run(self, run: Run, rows: Rows, batch: list[int], lists: AnswerList | None) -> list[Answer]:
        started = self._clock()
        lengths = [[column[row] for row in batch] for column in rows.lengths]
        longest = [max(steps) for steps in lengths]
        columns = [[column[row] for row in batch] for column in rows.columns]
        if lists and len(batch) > 1:
            return lists(run, columns, lengths[0])
        answers = self._run_padded(run, columns, lengths, longest)
        # A model without sequences takes one step a row.
        steps, valid = (sum(longest), sum(map(sum, lengths))) if lengths else (1, len(batch))
        self.cost.observe(len(batch), steps, valid, self._clock() - started)
        return answers

    def _taken_lists(self) -> AnswerList | None:
        """What answers rows as a list, where the model takes lists."""
        session, lists = self._taking_lists(), self._lists
        if lists is None or session is None or not lists.taken_by(session):
            return None
        return partial(lists.answers, session)

    def _run_padded(
        self, run: Run, columns: list[list[np.ndarray]], lengths: list[list[int]], longest: list[int]
    ) -> list[Answer]:
        feed = {
            name: slot.pack(column, longest[axis] if axis is not None else 0)
            for (name, slot), column, axis in zip(self._inputs.items(), columns, self._input_axes, strict=True)
        }
        for info, axis in zip(self._lengths, self._length_axes, strict=True):
            # [batch], or [batch, 1] where the model takes it so
            feed[info.name] = np.array(lengths[axis], info.dtype).reshape(-1, *[1] * (len(info.axes) - 1))
        outputs = run(feed)
        answers: list[Answer] = [{} for _ in columns[0]]
        for (name, slot), axis in zip(self._outputs.items(), self._output_axes, strict=True):
            values = slot.cut(outputs[name], lengths[axis] if axis is not None else (), self._threads)
            for answer, value in zip(answers, values, strict=True):
                answer[name] = value
        return answers

    def _batches(self, rows: Rows, options: Options, *, even: bool) -> Iterator[list[int]]:
        """The rows of each batch: alike in what cannot be padded, cut where that is cheapest, or as large as may be.

        Rows that influence each other are answered one by one.
        """
        if not self._independent:
            yield from ([row] for row in range(len(rows.indices)))
            return
        if not rows.alike:
            if rows.indices:
                yield from self._cut(rows, np.arange(len(rows.indices)), {}, options, even=even)
            return
        groups: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for row, sizes in enumerate(rows.alike):
            groups[sizes].append(row)
        for sizes, group in groups.items():
            shared = dict(zip(self._reader.unpadded, sizes, strict=True))
            yield from self._cut(rows, np.array(group), shared, options, even=even)

    def _cut(
        self, rows: Rows, group: np.ndarray, sizes: dict[str, Any], options: Options, *, even: bool
    ) -> Iterator[list[int]]:
        """The batches of rows that may share one. Learns the cost first, where that is worth it."""
        order, steps, most = self._ordered(rows, group, sizes, options)
        group = group[order]
        if even:
            yield from (group[part].tolist() for part in even_cuts(most))
            return
        if not self.cost.known and len(group) >= _WORTH_SAMPLES and steps[0] < steps[-1]:
            left = np.ones(len(group), bool)
            for some in samples(steps, int(most[-1])):
                left[some] = False
                yield group[some].tolist()
            group, steps, most = group[left], steps[left], most[left]
        left = len(group)
        while left:
            # Only as far as experience reaches; what these runs teach is there for the next ones.
            for part in cuts(steps[:left], most[:left], self.cost)[: self.cost.runs // 2 + 1]:
                yield group[part].tolist()
                left = part.start

    def _ordered(
        self, rows: Rows, group: np.ndarray, sizes: dict[str, Any], options: Options
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Some rows by length: their order, their steps, and how many a batch may have that ends with each."""
        limit, bound = options.batch_bytes, options.batch_size
        if self._ahead.linear:  # one sequence, and nothing else that differs
            lengths = np.array(rows.lengths[0])
            order = lengths.argsort(kind="stable")
            steps = lengths[order]
            fixed, per_step = self._ahead.linear
            if (fixed + per_step * int(steps[-1])) * bound <= limit:
                return order, steps, np.full(len(steps), bound)
            return order, steps, np.clip(limit // (fixed + per_step * steps), 1, bound)
        # [sequence axis, row]; a model without sequences takes one step a row.
        lengths = np.array(rows.lengths)[:, group] if rows.lengths else np.ones((1, len(group)), np.int64)
        order = lengths.sum(0).argsort(kind="stable")
        # What a batch that ends here is padded to: along a second axis any row before may be the longest.
        padded = np.maximum.accumulate(lengths[:, order], axis=1)
        footprint = self._footprint(dict(zip(self._reader.axes, padded, strict=False)) | sizes, padded.max(0))
        return order, padded.sum(0), np.clip(limit // footprint + np.zeros_like(order), 1, bound)


def _axis_of(slot: Slot, axes: list[str]) -> int | None:
    """Which of the sequence axes a tensor has; None where it has none."""
    return axes.index(axis_name(slot.sequence)) if slot.sequence else None
