"""Emits one Scan over the pieces of a batch, for a stack of recurrent layers that can share it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from onnx import TensorProto

from seqport.runtime.rewriting.emit import END, Emitter, graph_of
from seqport.runtime.rewriting.forms import Form, Part
from seqport.runtime.rewriting.native import Native
from seqport.runtime.rewriting.pieces import Pieces
from seqport.runtime.rewriting.sources import Packed, Source, Window

_FLOAT, _INT = TensorProto.FLOAT, TensorProto.INT64


@dataclass(frozen=True)
class Layer:
    """A layer of a stack.

    Attributes:
        native: the node that it stands for.
        forms: one a direction.
        read: whether anything beside the next layer reads its outputs.
        finals: of each state, whether anything reads what it ends at.
    """

    native: Native
    forms: tuple[Form, ...]
    read: bool
    finals: tuple[bool, ...]


@dataclass(frozen=True)
class Answers:
    """What a stack gives for one of its layers.

    Attributes:
        packed: its outputs in blocks; None where nothing reads them.
        finals: h_T and c_T, each [D, B, H], in the batch's order; "" where nothing reads it.
    """

    packed: Packed | None
    finals: list[str]


def emit_stack(emit: Emitter, pieces: Pieces, source: Source, layers: Sequence[Layer]) -> list[Answers]:
    """Emit the Scan, and what brings its states into the batch's order.

    Args:
        emit: where to.
        pieces: the plan of the batch.
        source: the inputs of the first layer. Each later one, of one direction like all before it, takes what the
            layer before it gives for the same piece.
        layers: one, or several of one direction.
    """
    initial = [_sorted(emit, pieces, layer, d, s) for layer, d, s in _states(layers)]
    body = _Body(emit, pieces)
    carried = [body.emit.name("state") for _ in initial]
    finals, blocks = _piece(body, source, layers, carried)
    graph = graph_of(
        body.emit,
        "piece",
        [*((name, _FLOAT) for name in carried), *body.entering],
        [(name, _FLOAT) for name in (*finals, *blocks.values())],
    )
    outputs = len(initial) + len(blocks)
    given = emit.ops("Scan", *initial, *body.scanned, outputs=outputs, body=graph, num_scan_inputs=len(body.scanned))
    scanned = {}
    for (layer, d, s), before, after in zip(_states(layers), initial, given, strict=False):
        if layer.finals[s]:
            scanned[id(layer), d, s] = _in_batch_order(emit, pieces, before, after)
    packed = dict(zip(blocks, given[len(initial) :], strict=True))
    return [_answers(emit, layer, scanned, packed.get(place)) for place, layer in enumerate(layers)]


class _Body:
    """The body under construction: what it takes of each piece is scanned only where something asks for it.

    Attributes:
        emit: of the body.
        entering: what is scanned, inside, with its type.
        scanned: the same outside, in the same order.
    """

    def __init__(self, emit: Emitter, pieces: Pieces) -> None:
        self.emit = emit.body("piece")
        self.entering: list[tuple[str, int]] = []
        self.scanned: list[str] = []
        self.pieces = pieces
        self.alive = self.of_each(pieces.each("alive"))
        self.window = Window(
            self.emit, pieces, self.of_each(pieces.each("starts")), self.of_each(pieces.each("ends")), self.alive
        )

    def of_each(self, table: str, kind: int = _INT) -> str:
        """What a table, [K, …], has for the piece."""
        if table not in self.scanned:
            self.scanned.append(table)
            self.entering.append((self.emit.name("of_piece"), kind))
        return self.entering[self.scanned.index(table)][0]


def _states(layers: Sequence[Layer]) -> list[tuple[Layer, int, int]]:
    """Every state of every direction of every layer, in the order in which the Scan carries them."""
    return [(layer, d, s) for layer in layers for d in range(len(layer.forms)) for s in range(layer.native.states)]


def _sorted(emit: Emitter, pieces: Pieces, layer: Layer, direction: int, state: int) -> str:
    """[1, B, H]: an initial state, longest row first."""
    name = layer.native.initial[state]
    if not name:
        return emit.zeros(1, pieces.batch, layer.native.hidden)
    if len(layer.forms) > 1:
        name = emit.slice(name, direction, direction + 1)
    return emit.op("Gather", name, pieces.order, axis=1)


def _in_batch_order(emit: Emitter, pieces: Pieces, before: str, after: str) -> str:
    """[1, B, H]: a final state; of a row of no steps the initial one."""

    def some() -> str:
        return emit.op("Unsqueeze", emit.op("Greater", pieces.sorted, emit.const([0])), emit.const([1]))

    # Such a row was carried along, but for a batch without any step, where one row is computed all the same.
    kept = emit.op("Where", pieces.once("some", lambda _: some()), after, before)
    return emit.op("Gather", kept, pieces.rank, axis=1)


def _piece(
    body: _Body, source: Source, layers: Sequence[Layer], carried: Sequence[str]
) -> tuple[list[str], dict[int, str]]:
    """The body's states after the piece, and the blocks of the layers that are read."""
    emit = body.emit
    part = Part(body.alive, body.window.rows(body.of_each(body.pieces.within, TensorProto.INT32)))
    todo = iter(carried)
    finals: list[str] = []
    blocks: dict[int, str] = {}
    before = ""
    for place, layer in enumerate(layers):
        outputs = []
        for form, backward in zip(layer.forms, layer.native.reversed, strict=True):
            states = [next(todo) for _ in range(layer.native.states)]
            alive = [emit.slice(state, 0, body.alive, axis=1) for state in states]
            x = emit.op("Reshape", before, emit.const([0, -1, layers[place - 1].native.hidden])) if before else ""
            y, new = form(emit, part, x or source.take(body.window, backward), alive)
            outputs.append(y)
            finals += [
                _carried(body, now, state, kept) for now, state, kept in zip(new, states, layer.finals, strict=True)
            ]
        if layer.read:
            blocks[place] = _block(body, outputs, layer.native.hidden)
        before = outputs[0]
    return finals, blocks


def _carried(body: _Body, now: str, state: str, kept: bool) -> str:
    """[1, B, H]: the states of the rows that were computed, and behind them those of rows that had ended."""
    if not kept:  # nobody reads these
        return body.emit.op("Pad", now, body.of_each(body.pieces.state_pads))
    return body.emit.op("Concat", now, body.emit.slice(state, body.alive, END, axis=1), axis=1)


def _block(body: _Body, outputs: Sequence[str], hidden: int) -> str:
    """[rows of a block, H]: the outputs of all tracks, and zeros behind them."""
    emit = body.emit
    rows = [emit.op("Reshape", y, emit.const([-1, hidden])) for y in outputs]
    together = emit.op("Concat", *rows, axis=0) if len(rows) > 1 else rows[0]
    return emit.op("Pad", together, body.of_each(body.pieces.block_pads(len(outputs))))


def _answers(emit: Emitter, layer: Layer, states: dict[tuple[int, int, int], str], blocks: str | None) -> Answers:
    directions = range(len(layer.forms))
    finals = []
    for state, read in enumerate(layer.finals):
        several = [states[id(layer), d, state] for d in directions] if read else [""]
        finals.append(several[0] if len(several) == 1 else emit.op("Concat", *several, axis=0))
    if blocks is None:
        return Answers(None, finals)
    hidden = layer.native.hidden
    flat = emit.op("Reshape", blocks, emit.const([-1, hidden]))
    return Answers(Packed(flat, layer.native.reversed), finals)
