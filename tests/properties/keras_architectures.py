"""Keras models as plain data: a source with a mask, blocks, a head; whatever is drawn is a model that runs."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from hypothesis import strategies as st

from seqport.exporters import Input

# No softplus: ONNX Runtime's overflows inside a layer, and the export is refused for that.
ACTIVATIONS = ("tanh", "tanh", "relu", "sigmoid", "linear", "softsign", "hard_sigmoid", "elu")
GATES = ("sigmoid", "sigmoid", "hard_sigmoid", "tanh")
MERGES = ("concat", "sum", "mul", "ave", "apart")
# What Masking layers take for padding.
MASK_VALUE = -1.0


@dataclass(frozen=True)
class Cell:
    """SimpleRNN, GRU or LSTM: options of the cell."""

    kind: str  # rnn, gru, lstm
    units: int
    activation: str = "tanh"
    recurrent_activation: str = "sigmoid"
    use_bias: bool = True
    reset_after: bool = True

    @property
    def states(self) -> int:
        """How many states it carries."""
        return 2 if self.kind == "lstm" else 1


@dataclass(frozen=True)
class Recurrent:
    """A recurrent layer; several cells are stacked in one RNN.

    `merge` is Bidirectional's ("apart": None, and the user joins the two), or "" for one direction. `initial` is
    "none", "zeros", "given" (inputs of the model) or "previous" (the final states of the recurrent block before).
    `layer` is the block whose layer is called, itself or an earlier one.
    """

    cells: tuple[Cell, ...]
    over_cells: bool = False  # RNN(cell) instead of the layer of that name
    return_sequences: bool = True
    return_state: bool = False
    go_backwards: bool = False
    unroll: bool = False
    zero_output_for_mask: bool = False
    merge: str = ""
    initial: str = "none"
    layer: int = 0

    @property
    def width(self) -> int:
        """Of the output."""
        return self.cells[-1].units * (2 if self.merge in ("concat", "apart") else 1)

    @property
    def states(self) -> tuple[int, ...]:
        """The size of each state."""
        return tuple(c.units for c in self.cells for _ in range(c.states)) * (2 if self.merge else 1)

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kind of each cell."""
        return tuple(cell.kind for cell in self.cells)


@dataclass(frozen=True)
class PerStep:
    """What treats steps apart, and lets a mask through."""

    kind: str  # dense, distributed, norm, dropout, activation
    residual: bool = False


@dataclass(frozen=True)
class Convolution:
    """Conv1D of as many steps; it knows no mask, so it stands where there is none yet."""

    kernel: int
    padding: str  # same or causal


Block = Recurrent | PerStep | Convolution


@dataclass(frozen=True)
class Architecture:
    """A whole model.

    `mask` is "none", "zero" (Embedding's mask_zero), "masking" (a Masking layer), "given" (an input) or "lengths"
    (computed from an input). `seq` is the fixed number of steps, or None.
    """

    source: str  # "ids" or "features"
    width: int
    mask: str
    blocks: tuple[Block, ...]
    head: str  # steps, last, average, attention, none
    style: str = "functional"  # or "subclassed", "sequential"
    seq: int | None = None

    @property
    def inputs(self) -> tuple[Input, ...]:
        """In the model's order."""
        axes = ("batch", self.seq or "seq")
        found = [Input("ids", axes, "int64") if self.source == "ids" else Input("x", (*axes, self.width))]
        if self.mask == "given":
            found.append(Input("mask", axes, "bool"))
        if self.mask == "lengths":
            found.append(Input("lengths", ("batch",), "int64"))
        for index, block in enumerate(self.blocks):
            if isinstance(block, Recurrent) and block.initial == "given":
                found += [Input(f"state_{index}_{i}", ("batch", n)) for i, n in enumerate(block.states)]
        return tuple(found)


@dataclass
class _Drawing:
    """What the blocks so far have made."""

    width: int
    mask: str
    seq: int | None
    blocks: list[Block] = field(default_factory=list)
    takes: dict[int, int] = field(default_factory=dict)  # recurrent block → width of its input

    def add(self, block: Block) -> None:
        if isinstance(block, Recurrent):
            self.takes[len(self.blocks)] = self.width
            self.width = block.width
        self.blocks.append(block)

    @property
    def last(self) -> Recurrent | None:
        return next((block for block in reversed(self.blocks) if isinstance(block, Recurrent)), None)


@st.composite
def architectures(draw: st.DrawFn) -> Architecture:
    """Any model of one to four blocks, of which at least one is recurrent."""
    source = draw(st.sampled_from(["ids", "features"]))
    mask = draw(st.sampled_from(["none", "given", "lengths", "zero" if source == "ids" else "masking"]))
    seq = draw(st.sampled_from([None, None, None, 1, 4]))
    width = draw(st.integers(1, 5))
    drawing = _Drawing(width, mask, seq)
    for _ in range(draw(st.integers(0, 3))):
        drawing.add(draw(_block(drawing)))
    head = draw(st.sampled_from(["steps", "last", "average", "attention", "none"]))
    if head == "last" or drawing.last is None:
        block = draw(_recurrent(drawing))
        drawing.add(replace(block, return_sequences=head != "last"))
    blocks = tuple(drawing.blocks)
    styles = ["functional", "subclassed", *(["sequential"] if _is_chain(blocks, mask, head) else [])]
    return Architecture(source, width, mask, blocks, head, draw(st.sampled_from(styles)), seq)


def _is_chain(blocks: tuple[Block, ...], mask: str, head: str) -> bool:
    """Whether one tensor goes from layer to layer."""
    plain = all(
        not (block.return_state or block.merge == "apart" or block.initial != "none" or block.layer != index)
        if isinstance(block, Recurrent)
        else isinstance(block, Convolution) or not block.residual
        for index, block in enumerate(blocks)
    )
    return plain and mask not in ("given", "lengths") and head != "attention"


_per_steps = st.builds(
    PerStep,
    kind=st.sampled_from(["dense", "distributed", "norm", "dropout", "activation"]),
    residual=st.booleans(),
)


def _block(drawing: _Drawing) -> st.SearchStrategy[Block]:
    """Any block that fits; recurrent ones are the likeliest."""
    choices: list[st.SearchStrategy[Any]] = [_recurrent(drawing), _recurrent(drawing), _per_steps]
    if drawing.mask not in ("zero", "masking") and (drawing.last is None or drawing.mask == "none"):
        kernels, paddings = st.sampled_from([1, 3]), st.sampled_from(["same", "causal"])
        choices.append(st.builds(Convolution, kernel=kernels, padding=paddings))
    again = [i for i, width in drawing.takes.items() if width == drawing.width]
    if again:
        choices.append(st.sampled_from(again).map(lambda i: _again(drawing.blocks[i])))
    return st.one_of(choices)


def _again(block: Block) -> Block:
    assert isinstance(block, Recurrent)
    return replace(block, initial="none")


_cells = st.builds(
    Cell,
    kind=st.sampled_from(["rnn", "gru", "lstm"]),
    units=st.integers(1, 5),
    activation=st.sampled_from(ACTIVATIONS),
    recurrent_activation=st.sampled_from(GATES),
    use_bias=st.booleans(),
    reset_after=st.booleans(),
)


@st.composite
def _recurrent(draw: st.DrawFn, drawing: _Drawing) -> Recurrent:
    cells = draw(st.one_of(_cells.map(lambda cell: (cell,)), st.lists(_cells, min_size=1, max_size=3).map(tuple)))
    merge = draw(st.sampled_from(["", "", *MERGES]))
    block = Recurrent(
        cells=cells,
        over_cells=len(cells) > 1 or draw(st.booleans()),
        return_state=draw(st.booleans()),
        go_backwards=not merge and draw(st.booleans()),  # Bidirectional takes forward layers only
        unroll=drawing.seq is not None and draw(st.booleans()),
        zero_output_for_mask=draw(st.booleans()),
        merge=merge,
        # Bidirectional hands its layers flat states, which stacked cells do not take.
        initial="none" if merge and len(cells) > 1 else draw(st.sampled_from(["none", "none", "zeros", "given"])),
        layer=len(drawing.blocks),
    )
    before = drawing.last
    fits = before is not None and before.return_state and (before.states, before.kinds) == (block.states, block.kinds)
    fits = fits and not (merge and len(cells) > 1)
    return replace(block, initial="previous") if fits and draw(st.booleans()) else block
