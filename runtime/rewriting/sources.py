"""Where the inputs of a packed layer come from, and which rows of it a piece takes.

The place of a row's step is a sum of what follows from the step and what follows from the row, so that a piece only
adds two slices of what the plan holds. Behind a row's end a place may be any row's, or count from the last row back:
what is computed there is never read.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from seqport.runtime.rewriting.emit import Emitter
from seqport.runtime.rewriting.pieces import Pieces


@dataclass
class Window:
    """The steps and rows of one piece, inside the body: each slice is taken once.

    Attributes:
        emit: of the body.
        pieces: the plan, outside of the body.
        start, end, alive: [1].
    """

    emit: Emitter
    pieces: Pieces
    start: str
    end: str
    alive: str
    _found: dict[str, str] = field(default_factory=dict)

    def steps(self, column: str) -> str:
        """[τ, 1], of [T, 1]."""
        if column not in self._found:
            self._found[column] = self.emit.slice(column, self.start, self.end)
        return self._found[column]

    def rows(self, vector: str) -> str:
        """[n], of [B]."""
        if vector not in self._found:
            self._found[vector] = self.emit.slice(vector, 0, self.alive)
        return self._found[vector]

    def steps_from_the_end(self) -> str:
        """[τ, n]: the steps counted from each row's last one; 0 behind it, a step that every row has in its block."""
        if "from the end" not in self._found:
            last, column = self.rows(_last(self.pieces)), self.steps(_column(self.pieces))
            back = self.emit.op("Sub", last, column)
            self._found["from the end"] = self.emit.op("Max", back, self.emit.const([0]))
        return self._found["from the end"]


def _last(pieces: Pieces) -> str:
    """[B]: the last step of each row."""
    return pieces.once("last", lambda emit: emit.op("Sub", pieces.sorted, emit.const([1])))


def _column(pieces: Pieces) -> str:
    """[T, 1]: the number of each step."""
    return pieces.once("column", lambda emit: emit.op("Unsqueeze", pieces.range, emit.const([1])))


@dataclass(frozen=True)
class Padded:
    """A padded batch, as it stands in the graph.

    Attributes:
        flat: [T · B, I] or [B · T, I]; without the last axis where it has one number a step.
        batch_major: the second of these.
    """

    flat: str
    batch_major: bool

    def take(self, window: Window, backward: bool) -> str:
        """[τ, n, I]: what a piece takes; each row from its end where it runs backward."""
        pieces = window.pieces
        row, step = window.rows(self._by_row(pieces, backward)), window.steps(self._by_step(pieces))
        place = window.emit.op("Sub" if backward else "Add", row, step)
        return window.emit.op("Gather", self.flat, place)

    def _by_step(self, pieces: Pieces) -> str:
        """[T, 1]: how far a step is behind the first one of its row."""
        if self.batch_major:
            return _column(pieces)
        return pieces.once("time-major column", lambda emit: emit.op("Mul", _column(pieces), pieces.batch))

    def _by_row(self, pieces: Pieces, backward: bool) -> str:
        """[B]: the place of a row's first step, or of its last one."""

        def make(emit: Emitter) -> str:
            first = emit.op("Mul", pieces.order, pieces.steps) if self.batch_major else pieces.order
            if not backward:
                return first
            last = _last(pieces) if self.batch_major else emit.op("Mul", _last(pieces), pieces.batch)
            return emit.op("Add", first, last)

        return pieces.once(("rows", self.batch_major, backward), make)


@dataclass(frozen=True)
class Valid:
    """The valid steps alone, row after row of the batch.

    Attributes:
        flat: [N + 1, I], the last row being what stands at padded steps.
    """

    flat: str

    def take(self, window: Window, backward: bool) -> str:
        """[τ, n, I]: what a piece takes; each row from its end where it runs backward."""
        emit, pieces = window.emit, window.pieces

        def first(outer: Emitter) -> str:
            return outer.op("Gather", pieces.offsets, pieces.order)

        def last(outer: Emitter) -> str:
            return outer.op("Add", pieces.once("first valid", first), _last(pieces))

        row = pieces.once("last valid", last) if backward else pieces.once("first valid", first)
        row, step = window.rows(row), window.steps(_column(pieces))
        if backward:
            return emit.op("Gather", self.flat, emit.op("Sub", row, step))
        return emit.op("Gather", self.flat, emit.op("Min", emit.op("Add", row, step), pieces.total))


@dataclass(frozen=True)
class Packed:
    """What another packed layer gave, still in its blocks.

    Attributes:
        flat: [rows, H], all blocks of its pieces.
        backward: of each of its tracks, whether its rows begin at their ends.
    """

    flat: str
    backward: tuple[bool, ...]

    def take(self, window: Window, backward: bool) -> str:
        """[τ, n, D · H]: what a piece takes; each row from its end where it runs backward."""
        emit = window.emit
        places = [self._place(window, track, its != backward) for track, its in enumerate(self.backward)]
        if len(places) == 1:
            return emit.op("Gather", self.flat, places[0])
        place = emit.op("Concat", *(emit.op("Unsqueeze", one, emit.const([2])) for one in places), axis=2)  # [τ, n, D]
        return emit.op("Reshape", emit.op("Gather", self.flat, place), emit.const([0, 0, -1]))

    def _place(self, window: Window, track: int, turned: bool) -> str:
        """[τ, n]: where one track's outputs stand; turned where it ran the other way."""
        emit, pieces = window.emit, window.pieces
        begins = pieces.rowstarts(track, len(self.backward))
        if turned:
            step = emit.op("Gather", begins, window.steps_from_the_end())
        else:
            column = pieces.once(("column", begins), lambda outer: outer.op("Unsqueeze", begins, outer.const([1])))
            step = window.steps(column)
        return emit.op("Add", step, window.rows(pieces.places))


class Source(Protocol):
    """Where a piece's inputs come from."""

    def take(self, window: Window, backward: bool) -> str:
        """[τ, n, I]: what a piece takes; each row from its end where it runs backward."""
        ...
