"""Emits one Scan over the pieces of a batch, for a stack of recurrent layers that can share it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from onnx import TensorProto

from seqport.runtime.rewriting.emit import END, Emitter, graph_of
from seqport.runtime.rewriting.forms import Form, Part
from seqport.runtime.rewriting.native import Native
from seqport.runtime.rewriting.pieces import Pieces
from seqport.runtime.rewriting.sources import Packed, Padded, Window

_FLOAT, _INT = TensorProto.FLOAT, TensorProto.INT64


@dataclass(frozen=True)
class Layer:
    """A layer of a stack.

    Attributes:
        native: the node that it stands for.
        forms: one a direction.
        read: whether anything beside the next layer reads its outputs.
    """

    native: Native
    forms: tuple[Form, ...]
    read: bool


@dataclass(frozen=True)
class Answers:
    """What a stack gives for one of its layers.

    Attributes:
        packed: its outputs in blocks; None where nothing reads them.
        finals: h_T and c_T, each [D, B, H], in the batch's order.
    """

    packed: Packed | None
    finals: list[str]


def emit_stack(emit: Emitter, pieces: Pieces, source: Padded | Packed, layers: Sequence[Layer]) -> list[Answers]:
    """Emit the Scan, and what brings its states into the batch's order.

    Args:
        emit: where to.
        pieces: the plan of the batch.
        source: the inputs of the first layer. Each later one, of one direction like all before it, takes what the
            layer before it gives for the same piece.
        layers: one, or several of one direction.
    """
    initial = [_sorted(emit, pieces, layer, d, s) for layer, d, s in _states(layers)]
    body = emit.body("piece")
    carried = [body.name("state") for _ in initial]
    start, width, alive = (body.name(name) for name in ("start", "width", "alive"))
    one = body.const([1])
    sizes = [body.op("Reshape", value, one) for value in (start, width, alive)]
    window = Window(body, pieces, sizes[0], sizes[1], sizes[2])
    finals, blocks = _piece(window, source, layers, carried)
    graph = graph_of(
        body,
        "piece",
        [*((name, _FLOAT) for name in carried), (start, _INT), (width, _INT), (alive, _INT)],
        [(name, _FLOAT) for name in (*finals, *blocks.values())],
    )
    scanned = (pieces.starts, pieces.widths, pieces.alive)
    given = emit.ops("Scan", *initial, *scanned, outputs=len(initial) + len(blocks), body=graph, num_scan_inputs=3)
    ordered = iter(emit.op("Gather", state, pieces.rank, axis=1) for state in given[: len(initial)])
    by_state = {(id(layer), d, s): next(ordered) for layer, d, s in _states(layers)}
    packed = dict(zip(blocks, given[len(initial) :], strict=True))
    return [_answers(emit, layer, by_state, packed.get(place)) for place, layer in enumerate(layers)]


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


def _piece(
    window: Window, source: Padded | Packed, layers: Sequence[Layer], carried: Sequence[str]
) -> tuple[list[str], dict[int, str]]:
    """The body's states after the piece, and the blocks of the layers that are read."""
    emit = window.emit
    steps = emit.op("Min", emit.op("Sub", window.lengths, window.start), window.width)
    part = Part(window.width, window.alive, steps)
    # Of a batch without any step, one row is computed all the same; its state stays.
    some = emit.op("Unsqueeze", emit.op("Greater", steps, emit.const([0])), emit.const([1]))
    todo = iter(carried)
    finals: list[str] = []
    blocks: dict[int, str] = {}
    before: list[str] = []
    for place, layer in enumerate(layers):
        outputs = []
        for form, backward in zip(layer.forms, layer.native.reversed, strict=True):
            states = [next(todo) for _ in range(layer.native.states)]
            alive = [emit.slice(state, 0, window.alive, axis=1) for state in states]
            x = before[0] if before else source.take(window, backward)
            y, new = form(emit, part, x, alive)
            outputs.append(y)
            kept = [emit.op("Where", some, now, old) for now, old in zip(new, alive, strict=True)]
            finals += [
                emit.op("Concat", now, emit.slice(old, window.alive, END, axis=1), axis=1)
                for now, old in zip(kept, states, strict=True)
            ]
        if layer.read:
            blocks[place] = _block(window, outputs, layer.native.hidden)
        before = outputs
    return finals, blocks


def _block(window: Window, outputs: Sequence[str], hidden: int) -> str:
    """[rows of a block, H]: the outputs of all tracks, and zeros behind them."""
    emit = window.emit
    rows = [emit.op("Reshape", y, emit.const([-1, hidden])) for y in outputs]
    area = emit.op("Mul", emit.op("Mul", window.alive, window.width), emit.const([len(outputs)]))
    rest = emit.op("Sub", window.pieces.block(len(outputs)), area)
    together = emit.op("Concat", *rows, axis=0) if len(rows) > 1 else rows[0]
    return emit.op("Pad", together, emit.shape(0, 0, rest, 0))


def _answers(emit: Emitter, layer: Layer, states: dict[tuple[int, int, int], str], blocks: str | None) -> Answers:
    directions = range(len(layer.forms))
    finals = []
    for state in range(layer.native.states):
        several = [states[id(layer), d, state] for d in directions]
        finals.append(several[0] if len(several) == 1 else emit.op("Concat", *several, axis=0))
    if blocks is None:
        return Answers(None, finals)
    hidden = layer.native.hidden
    flat = emit.op("Reshape", blocks, emit.const([-1, hidden]))
    return Answers(Packed(flat, layer.native.reversed, hidden), finals)
