"""Brings the outputs of packed layers back to a padded batch, zeros behind each row's end."""

from __future__ import annotations

from seqport.runtime.rewriting.emit import Emitter
from seqport.runtime.rewriting.pieces import Pieces
from seqport.runtime.rewriting.sources import Packed


def unpacked(emit: Emitter, pieces: Pieces, packed: Packed, *, batch_major: bool) -> str:
    """[T, B, D · H], or [B, T, D · H]."""
    step_axis, row_axis = (0, 1) if batch_major else (1, 0)
    steps = emit.op("Unsqueeze", pieces.range, emit.const([step_axis]))
    lengths = emit.op("Unsqueeze", pieces.lengths, emit.const([row_axis]))
    rank = emit.op("Unsqueeze", pieces.rank, emit.const([row_axis]))
    inside = emit.op("Less", steps, lengths)
    # The last row of the first block is one of zeros.
    tracks = len(packed.backward)
    zeros = emit.op("Sub", pieces.block(tracks), emit.const([1]))
    places = []
    for track, backward in enumerate(packed.backward):
        at = steps
        if backward:
            at = emit.op("Sub", emit.op("Sub", lengths, emit.const([1])), steps)  # behind a row's end never read
        begins = emit.op("Gather", pieces.rowstarts(track, tracks), at)
        place = emit.op("Where", inside, emit.op("Add", begins, rank), zeros)
        places.append(emit.op("Unsqueeze", place, emit.const([2])))
    place = emit.op("Concat", *places, axis=2) if tracks > 1 else places[0]  # [T, B, D] or [B, T, D]
    return emit.op("Reshape", emit.op("Gather", packed.flat, place), emit.const([0, 0, -1]))
