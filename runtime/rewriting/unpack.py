"""Brings the outputs of packed layers out of their blocks: to the padded batch, or to its valid steps alone."""

from __future__ import annotations

from seqport.runtime.rewriting.emit import Emitter
from seqport.runtime.rewriting.pieces import Pieces
from seqport.runtime.rewriting.sources import Packed


def unpacked(emit: Emitter, pieces: Pieces, packed: Packed, *, batch_major: bool) -> str:
    """[T, B, D · H], or [B, T, D · H], zeros behind each row's end."""
    place = _places(pieces, packed.backward, batch_major)
    return emit.op("Reshape", emit.op("Gather", packed.flat, place), emit.const([0, 0, -1]))


def valid_steps(emit: Emitter, pieces: Pieces, packed: Packed) -> str:
    """[1, N + 1, D · H]: the N valid steps, row after row of the batch, then what stands at padded ones."""

    def make(outer: Emitter) -> str:
        tracks = len(packed.backward)
        flat = outer.op("Reshape", _places(pieces, packed.backward, True), outer.const([-1, tracks]))
        inside = outer.op("Reshape", _inside(pieces, True), outer.const([-1]))
        zeros = outer.op("Unsqueeze", outer.shape(*[_zeros(pieces, tracks)] * tracks), outer.const([0]))
        place = outer.op("Concat", outer.op("Compress", flat, inside, axis=0), zeros, axis=0)
        return outer.op("Unsqueeze", place, outer.const([0]))

    place = pieces.once(("valid steps", packed.backward), make)  # [1, N + 1, D]
    return emit.op("Reshape", emit.op("Gather", packed.flat, place), emit.const([0, 0, -1]))


def spread(emit: Emitter, pieces: Pieces, valid: str, *, batch_major: bool) -> str:
    """[T, B, …] or [B, T, …] of what `valid_steps` holds, or of what was made of it step by step."""

    def make(outer: Emitter) -> str:
        first = outer.op("Unsqueeze", pieces.offsets, outer.const([int(batch_major)]))
        place = outer.op("Add", first, _steps(pieces, batch_major))
        return outer.op("Where", _inside(pieces, batch_major), place, pieces.total)

    placed = emit.op("Gather", valid, pieces.once(("spread", batch_major), make), axis=1)
    return emit.op("Squeeze", placed, emit.const([0]))


def _steps(pieces: Pieces, batch_major: bool) -> str:
    """[T, 1], or [1, T]."""
    return _along(pieces, pieces.range, 0 if batch_major else 1)


def _along(pieces: Pieces, vector: str, axis: int) -> str:
    return pieces.once(("along", vector, axis), lambda emit: emit.op("Unsqueeze", vector, emit.const([axis])))


def _inside(pieces: Pieces, batch_major: bool) -> str:
    """[T, B], or [B, T]: which steps are valid."""

    def make(emit: Emitter) -> str:
        return emit.op("Less", _steps(pieces, batch_major), _along(pieces, pieces.lengths, int(batch_major)))

    return pieces.once(("inside", batch_major), make)


def _zeros(pieces: Pieces, tracks: int) -> str:
    """[1]: the place of the last row of the first block, which is one of zeros."""
    return pieces.once(("zeros", tracks), lambda emit: emit.op("Sub", pieces.block(tracks), emit.const([1])))


def _places(pieces: Pieces, backward: tuple[bool, ...], batch_major: bool) -> str:
    """[T, B, D], or [B, T, D]: where the outputs of each step stand."""

    def make(emit: Emitter) -> str:
        row_axis = int(batch_major)
        steps, inside = _steps(pieces, batch_major), _inside(pieces, batch_major)
        rank, tracks = _along(pieces, pieces.rank, row_axis), len(backward)
        places = []
        for track, its in enumerate(backward):
            at = steps
            if its:  # what comes out behind a row's end is not taken
                at = emit.op("Sub", emit.op("Sub", _along(pieces, pieces.lengths, row_axis), emit.const([1])), steps)
            begins = emit.op("Gather", pieces.rowstarts(track, tracks), at)
            place = emit.op("Where", inside, emit.op("Add", begins, rank), _zeros(pieces, tracks))
            places.append(emit.op("Unsqueeze", place, emit.const([2])))
        return emit.op("Concat", *places, axis=2) if tracks > 1 else places[0]

    return pieces.once(("places", backward, batch_major), make)
