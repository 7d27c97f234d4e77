"""Where the inputs of a packed layer come from, and which rows of it a piece takes."""

from __future__ import annotations

from dataclasses import dataclass, field

from seqport.runtime.rewriting.emit import Emitter
from seqport.runtime.rewriting.pieces import Pieces


@dataclass
class Window:
    """The steps and rows of one piece, inside the body: each index is worked out once.

    Attributes:
        pieces: the plan, outside of the body.
        start, width, alive: [1].
    """

    emit: Emitter
    pieces: Pieces
    start: str
    width: str
    alive: str
    _found: dict[str, str] = field(default_factory=dict)

    def _once(self, name: str, make: object) -> str:
        if name not in self._found:
            self._found[name] = make()  # type: ignore[operator]
        return self._found[name]

    @property
    def lengths(self) -> str:
        """[n]: how long the rows are that the piece computes."""
        return self._once("lengths", lambda: self.emit.slice(self.pieces.sorted, 0, self.alive))

    @property
    def steps(self) -> str:
        """[τ, 1]: the piece's steps."""
        emit = self.emit

        def make() -> str:
            within = emit.range(self.width)
            return emit.op("Unsqueeze", emit.op("Add", within, self.start), emit.const([1]))

        return self._once("steps", make)

    @property
    def steps_from_the_end(self) -> str:
        """[τ, n]: the same steps counted from each row's last one; 0 behind it."""
        emit = self.emit

        def make() -> str:
            last = emit.op("Sub", self.lengths, emit.const([1]))
            return emit.op("Max", emit.op("Sub", last, self.steps), emit.const([0]))

        return self._once("from the end", make)

    @property
    def rows(self) -> str:
        """[n]: which rows of the batch the piece computes."""
        return self._once("rows", lambda: self.emit.slice(self.pieces.order, 0, self.alive))

    @property
    def places(self) -> str:
        """[n]: 0, 1, …: where those rows stand in the sorted order."""
        return self._once("places", lambda: self.emit.range(self.alive))

    def at(self, backward: bool) -> str:
        """The steps, forward or from each row's end."""
        return self.steps_from_the_end if backward else self.steps


@dataclass(frozen=True)
class Padded:
    """A padded batch, as it stands in the graph.

    Attributes:
        flat: [T · B, I] or [B · T, I].
        batch_major: the second of these.
    """

    flat: str
    batch_major: bool

    def take(self, window: Window, backward: bool) -> str:
        """[τ, n, I]: what a piece takes; each row from its end where it runs backward."""
        emit, pieces = window.emit, window.pieces
        step = window.at(backward)
        if self.batch_major:
            place = emit.op("Add", emit.op("Mul", window.rows, pieces.steps), step)
        else:
            place = emit.op("Add", emit.op("Mul", step, pieces.batch), window.rows)
        return emit.op("Gather", self.flat, place)


@dataclass(frozen=True)
class Packed:
    """What another packed layer gave, still in its blocks.

    Attributes:
        flat: [rows, H], all blocks of its pieces.
        backward: of each of its tracks, whether its rows begin at their ends.
        hidden: H.
    """

    flat: str
    backward: tuple[bool, ...]
    hidden: int

    def take(self, window: Window, backward: bool) -> str:
        """[τ, n, D · H]: what a piece takes; each row from its end where it runs backward."""
        emit, places = window.emit, []
        for track, its in enumerate(self.backward):
            begins = window.pieces.rowstarts(track, len(self.backward))
            place = emit.op("Add", emit.op("Gather", begins, window.at(its != backward)), window.places)
            places.append(emit.op("Unsqueeze", place, emit.const([2])))
        place = emit.op("Concat", *places, axis=2)  # [τ, n, D]
        return emit.op("Reshape", emit.op("Gather", self.flat, place), emit.const([0, 0, -1]))
