"""Cuts time into pieces, each computed for only the rows that are still alive when it begins.

With rows sorted by length, n(t) of them have more than t steps. A piece from t to t + τ costs τ · n(t) steps of one
row, so some are wasted on rows that end inside it: more pieces waste less, and each costs something of its own. Where
n falls by s(t) rows a step, pieces of width τ waste s τ² / 2 each, so that with b the cost of one row's step and c that
of a piece, the best width is √(2c / (b s)): cuts at equal increments Δ = √(2c / b) of the integral of √s. Over the
distinct lengths that integral is a sum of √(gap · rows that end there), and every cut falls on an end.

A piece costs a few nodes for every index that it works out, so what can be worked out for all pieces at once is: the
plan holds vectors of one entry a row, a piece, or a step, and tables of a few numbers a piece.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from onnx import TensorProto

from seqport.runtime.rewriting.emit import END, Emitter


@dataclass(frozen=True)
class Pieces:
    """Names of the plan's values, all int64 where nothing else is said. Rows count from the longest to the shortest.

    Attributes:
        emit: of the graph that holds the plan.
        lengths: [B].
        batch, steps: [1]: B, and T of the padded batch.
        order: [B], which row of the batch stands where.
        rank: [B], where each row of the batch stands.
        sorted: [B], how long the rows are.
        starts, ends, alive: [K], of each piece its first step, the step behind its last, and the rows that it computes.
        areas: [K], alive · (ends - starts).
        largest: [1], the largest area.
        range, places: 0, 1, …: [T] and [B].
    """

    emit: Emitter
    lengths: str
    batch: str
    steps: str
    order: str
    rank: str
    sorted: str
    starts: str
    ends: str
    alive: str
    areas: str
    largest: str
    range: str
    places: str
    _found: dict[object, str] = field(default_factory=dict)

    def once(self, key: object, make: Callable[[Emitter], str]) -> str:
        """A value that follows from the plan, emitted once however often it is asked for."""
        if key not in self._found:
            self._found[key] = make(self.emit)
        return self._found[key]

    def each(self, name: str) -> str:
        """[K, 1]: "starts", "ends" or "alive", to be scanned."""
        return self.once(("each", name), lambda emit: emit.op("Unsqueeze", getattr(self, name), emit.const([1])))

    @property
    def within(self) -> str:
        """[K, B], int32: the steps of each row within each piece; of those that it computes from 1 to its width."""

        def make(emit: Emitter) -> str:
            left = emit.op("Sub", emit.op("Unsqueeze", self.sorted, emit.const([0])), self.each("starts"))
            widths = emit.op("Sub", self.each("ends"), self.each("starts"))
            return emit.op("Cast", emit.op("Min", left, widths), to=TensorProto.INT32)

        return self.once("within", make)

    @property
    def offsets(self) -> str:
        """[B]: of each row of the batch, how many valid steps the rows before it have."""
        return self.once("offsets", lambda emit: emit.op("CumSum", self.lengths, emit.const(0), exclusive=1))

    @property
    def total(self) -> str:
        """[1]: how many valid steps there are."""
        return self.once("total", lambda emit: emit.op("ReduceSum", self.lengths, keepdims=1))

    @property
    def state_pads(self) -> str:
        """[K, 6]: what brings a state of the rows of a piece, [1, n, H], to [1, B, H]."""
        return self.once("state pads", lambda emit: self._pads(emit, emit.op("Sub", self.batch, self.alive), 4))

    def block_pads(self, tracks: int) -> str:
        """[K, 4]: what brings the outputs of a piece to a block of rows."""

        def make(emit: Emitter) -> str:
            area = self.areas if tracks == 1 else emit.op("Mul", self.areas, emit.const([tracks]))
            return self._pads(emit, emit.op("Sub", self.block(tracks), area), 2)

        return self.once(("block pads", tracks), make)

    @staticmethod
    def _pads(emit: Emitter, rest: str, place: int) -> str:
        """[K, place + 2], zeros around the one number of each piece."""
        return emit.op("Pad", emit.op("Unsqueeze", rest, emit.const([1])), emit.const([0, place, 0, 1]))

    def block(self, tracks: int) -> str:
        """[1]: the rows of a piece's block: what all tracks give, and at least one of zeros behind it."""

        def make(emit: Emitter) -> str:
            most = self.largest if tracks == 1 else emit.op("Mul", self.largest, emit.const([tracks]))
            return emit.op("Add", most, emit.const([1]))

        return self.once(("block", tracks), make)

    def rowstarts(self, track: int, tracks: int) -> str:
        """[T]: the place of each step's first row among the blocks of a stack, flattened."""

        def make(emit: Emitter) -> str:
            one = emit.const([1])
            last = emit.op("Sub", emit.slice(self.ends, -1, END), one)
            step = emit.op("Min", self.range, last)
            over = emit.op(
                "GreaterOrEqual", emit.op("Unsqueeze", step, one), emit.op("Unsqueeze", self.ends, emit.const([0]))
            )
            piece = emit.op("ReduceSum", emit.op("Cast", over, to=TensorProto.INT64), one, keepdims=0)  # [T]
            within = emit.op("Sub", step, emit.op("Gather", self.starts, piece))
            place = emit.op("Mul", within, emit.op("Gather", self.alive, piece))
            if track:
                behind = emit.op("Mul", emit.op("Gather", self.areas, piece), emit.const([track]))
                place = emit.op("Add", place, behind)
            return emit.op("Add", emit.op("Mul", piece, self.block(tracks)), place)

        return self.once(("rowstarts", track, tracks), make)


def plan(emit: Emitter, lengths: str, steps: str, increment: str) -> Pieces:
    """Emit the plan of a batch.

    Args:
        emit: where to.
        lengths: [B], int32.
        steps: [1], int64: T.
        increment: scalar, float32: Δ.
    """
    zero, one, shift = emit.const([0]), emit.const([1]), emit.const([1, -1])
    counts = emit.range(emit.op("Add", steps, one))  # [T + 1]
    lengths = _checked(emit, lengths, counts)
    batch = emit.op("Shape", lengths)
    ordered, order = emit.ops("TopK", lengths, batch, outputs=2)
    rows = emit.range(batch)
    rank = emit.op("ScatterElements", order, order, rows)

    ends, _, _, rows_at = emit.ops("Unique", lengths, outputs=4)  # ascending
    gaps = emit.op("Sub", ends, emit.op("Pad", ends, shift))
    weight = emit.op("Sqrt", emit.op("Cast", emit.op("Mul", gaps, rows_at), to=TensorProto.FLOAT))
    whole = emit.op("Floor", emit.op("Div", emit.op("CumSum", weight, emit.const(0)), increment))
    cut = emit.op("Greater", whole, emit.op("Pad", whole, shift))
    last = emit.op("Equal", ends, emit.slice(ends, -1, END))
    cut = emit.op("Or", emit.op("And", cut, emit.op("Greater", ends, zero)), last)

    ended = emit.op("Compress", emit.op("CumSum", rows_at, emit.const(0)), cut, axis=0)
    # A batch of empty rows has one piece, of one step of one row.
    ends = emit.op("Max", emit.op("Compress", ends, cut, axis=0), one)
    starts = emit.op("Pad", ends, shift)
    some = emit.op("Cast", emit.op("Greater", lengths, zero), to=TensorProto.INT64)
    begun = emit.op("Max", emit.op("ReduceSum", some, keepdims=1), one)
    alive = emit.op("Concat", begun, emit.op("Sub", batch, emit.slice(ended, 0, -1)), axis=0)
    starts, widths, alive = _split(emit, lengths, starts, emit.op("Sub", ends, starts), alive)
    ends = emit.op("Add", starts, widths)
    areas = emit.op("Mul", alive, widths)
    largest = emit.op("ReduceMax", areas, keepdims=1)
    own = (batch, steps, order, rank, ordered, starts, ends, alive, areas, largest)
    return Pieces(emit, lengths, *own, emit.slice(counts, 0, -1), rows)


def _checked(emit: Emitter, lengths: str, counts: str) -> str:
    """Lengths as int64; the run fails, as that of the native node, where one is negative or beyond the steps."""
    lengths = emit.op("Cast", lengths, to=TensorProto.INT64)
    # Gather would count a negative one from the last; nothing stands where this one points instead.
    beyond = emit.const([2**40])
    return emit.op("Gather", counts, emit.op("Where", emit.op("Less", lengths, emit.const([0])), beyond, lengths))


def _split(emit: Emitter, lengths: str, starts: str, widths: str, alive: str) -> tuple[str, str, str]:
    """Pieces of no more than twice the mean area: the blocks of all have the room of the largest one.

    So they hold no more than three times the row-steps that are computed, whatever the lengths.
    """
    zero, one = emit.const([0]), emit.const([1])
    areas = emit.op("Mul", alive, widths)
    total = emit.op("ReduceSum", areas, keepdims=1)
    most = emit.op("Add", emit.op("Div", emit.op("Mul", total, emit.const([2])), emit.op("Shape", areas)), one)
    parts = emit.op("Min", widths, emit.op("Add", emit.op("Div", areas, most), one))  # [K]
    ends = emit.op("CumSum", parts, emit.const(0))
    place = emit.range(emit.op("ReduceSum", parts, keepdims=1))
    behind = emit.op("GreaterOrEqual", emit.op("Unsqueeze", place, one), emit.op("Unsqueeze", ends, zero))
    piece = emit.op("ReduceSum", emit.op("Cast", behind, to=TensorProto.INT64), one, keepdims=0)
    count, width = emit.op("Gather", parts, piece), emit.op("Gather", widths, piece)
    part = emit.op("Sub", place, emit.op("Gather", emit.op("Sub", ends, parts), piece))
    begin = emit.op("Div", emit.op("Mul", part, width), count)
    end = emit.op("Div", emit.op("Mul", emit.op("Add", part, one), width), count)
    start = emit.op("Add", emit.op("Gather", starts, piece), begin)
    # Rows may end at a cut that was not theirs.
    longer = emit.op("Greater", emit.op("Unsqueeze", lengths, zero), emit.op("Unsqueeze", start, one))
    rows = emit.op("ReduceSum", emit.op("Cast", longer, to=TensorProto.INT64), one, keepdims=0)
    return start, emit.op("Sub", end, begin), emit.op("Max", rows, one)
