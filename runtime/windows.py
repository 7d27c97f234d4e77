"""Reads items ahead, as many as memory and the caller allow, so that rows of like length can share a batch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, NoReturn

from seqport.runtime.errors import InputError, InputSizeError
from seqport.runtime.options import Options
from seqport.runtime.packing import Footprint
from seqport.runtime.rows import RowReader, Rows, of_item


@dataclass
class Window:
    """Items that were read ahead.

    Attributes:
        start: the index of the first one.
        rows: those that fit.
        answers: one place for each item: None until it is answered, or its error.
        ended: there are no more.
        failure: what stopped the reading, if not their number.
    """

    start: int
    rows: Rows
    answers: list[Any]
    ended: bool = False
    failure: Exception | None = None


class ReadAhead:
    """Reads the items of one model.

    Args:
        reader: of single items.
        footprint: of the model's rows.

    Attributes:
        linear: the bytes of a row, and of each of its steps, where these are all that counts; else None.
    """

    def __init__(self, reader: RowReader, footprint: Footprint) -> None:
        self._reader, self._footprint = reader, footprint
        simple = len(reader.axes) == 1 and not reader.unpadded
        self.linear = footprint.linear(reader.axes[0]) if simple else None

    def of_iterator(self, iterator: Iterator[Any], start: int, options: Options) -> Window:
        """As many items as may be held, or up to the first one that is wrong.

        Args:
            iterator: stands just behind the last item that was read, afterwards.
            start: the index of the next item.
            options: of the call.
        """
        return self._one_by_one(iterator, start, options, options.held_bytes)

    def of_list(self, items: Sequence[Any], start: int, options: Options) -> Window:
        """The same from a part of a list; at once where these are plain sequences and none is wrong.

        Where all answers are kept anyway, they do not bound what is read.

        Args:
            items: that part, of at most `read_ahead` items.
            start: the index of its first item.
            options: of the call.
        """
        most = options.held_bytes if options.in_order else math.inf
        rows = self._reader.empty()
        if self.linear and items and self._reader.add_all(rows, start, items):
            fixed, per_step = self.linear
            largest = fixed + per_step * max(rows.lengths[0])
            whole = fixed * len(items) + per_step * sum(rows.lengths[0])
            if whole <= most and (options.memory_limit is None or largest <= options.memory_limit):
                return Window(start, rows, [None] * len(items), len(items) < options.read_ahead)
        return self._one_by_one(iter(items), start, options, most)

    def _one_by_one(self, iterator: Iterator[Any], start: int, options: Options, most: float) -> Window:
        window = Window(start, self._reader.empty(), [])
        rows, answers, add = window.rows, window.answers, self._reader.add
        held = 0
        try:
            for index, item in enumerate(islice(iterator, options.read_ahead), start):
                try:
                    add(rows, index, item)
                    size = self._row_bytes(rows)
                    if options.memory_limit and size > options.memory_limit:
                        _refuse_size(rows, index, size, options.memory_limit)
                except InputError as error:
                    if options.on_error == "raise":
                        raise
                    answers.append(error)
                    continue
                answers.append(None)
                held += size
                if held >= most:
                    return window
        except Exception as error:  # of the item, or of whatever the items come from
            if not options.in_order:
                raise
            window.failure = error
        window.ended = len(answers) < options.read_ahead
        return window

    def _row_bytes(self, rows: Rows) -> int:
        """Of the row that was read last, alone in its batch."""
        if self.linear:
            return self.linear[0] + self.linear[1] * rows.lengths[0][-1]
        sizes = {axis: lengths[-1] for axis, lengths in zip(self._reader.axes, rows.lengths, strict=True)}
        longest = max(sizes.values(), default=1)
        if rows.alike:
            sizes |= zip(self._reader.unpadded, rows.alike[-1], strict=True)
        return self._footprint(sizes, longest)


def _refuse_size(rows: Rows, index: int, size: int, limit: int) -> NoReturn:
    rows.drop_last()
    raise of_item(
        index,
        InputSizeError(
            f"its inputs and outputs take {size} bytes, and memory_limit is {limit}: "
            "raise the limit, or split the sequence"
        ),
    )
