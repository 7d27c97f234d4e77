"""PyTorch models as plain data: a source, blocks in sequence, a head; whatever is drawn is a model that runs."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from hypothesis import strategies as st

from seqport.exporters import Input

CELLS = ("rnn", "rnn-relu", "gru", "lstm")
HEADS = ("steps", "last", "gather", "mean", "max", "attention")
# A constant total_length, above every drawn sequence.
LONGER = 16


@dataclass(frozen=True)
class Recurrent:
    """nn.RNN, nn.GRU or nn.LSTM on padded or packed input.

    `initial` is "none", "zeros" (written out), "learned", "given" (an input of the model) or "previous" (the
    final state of the recurrent block before). `layer` is the block whose layer is called, itself or an earlier one.
    """

    cell: str
    units: int
    num_layers: int = 1
    bidirectional: bool = False
    bias: bool = True
    proj_size: int = 0
    batch_first: bool = True
    initial: str = "none"
    layer: int = 0

    @property
    def rows(self) -> int:
        """Of a state: [rows, batch, ...]."""
        return self.num_layers * (2 if self.bidirectional else 1)

    @property
    def width(self) -> int:
        """Of the output."""
        return (self.proj_size or self.units) * (2 if self.bidirectional else 1)

    @property
    def states(self) -> dict[str, int]:
        """The name and size of each state."""
        return {"h": self.proj_size or self.units} | ({"c": self.units} if self.cell == "lstm" else {})


@dataclass(frozen=True)
class PerStep:
    """What treats steps apart; on a packed sequence it goes through `.data`, rebuilt one way or the other."""

    kind: str  # linear, norm, relu, dropout, tanh
    residual: bool = False
    rebuilt: str = "constructor"  # or "replace"


@dataclass(frozen=True)
class Convolution:
    """Conv1d over the steps, padded so that their number stays."""

    kernel: int


@dataclass(frozen=True)
class Pack:
    """pack_padded_sequence."""

    lengths: str = "tensor"  # or "cpu", "list"
    order: str = "any"  # "sorted": enforce_sorted; "by hand": the user sorts, and sorts back
    batch_first: bool = True


@dataclass(frozen=True)
class Unpack:
    """pad_packed_sequence; `total` is "seq" (the input's size), "max" (left out) or "longer" (a constant)."""

    total: str = "seq"
    padding_value: float = 0.0
    batch_first: bool = True


Block = Recurrent | PerStep | Convolution | Pack | Unpack


@dataclass(frozen=True)
class Architecture:
    """A whole model; `finals`: the last recurrent block's final states are outputs too."""

    source: str  # "ids" or "features"
    width: int
    blocks: tuple[Block, ...]
    head: str
    finals: bool = False
    time_major: bool = False
    lengths_dtype: str = "int64"

    @property
    def sorted_rows(self) -> bool:
        """Whether it takes rows by falling length only."""
        return any(isinstance(block, Pack) and block.order == "sorted" for block in self.blocks)

    @property
    def inputs(self) -> tuple[Input, ...]:
        """In the order of forward's arguments."""
        axes: tuple[Any, ...] = ("seq", "batch") if self.time_major else ("batch", "seq")
        ids = self.source == "ids"
        found = [Input("ids", axes, "int64") if ids else Input("x", (*axes, self.width))]
        if any(isinstance(block, Pack) for block in self.blocks) or self.head not in ("steps", "last"):
            found.append(Input("lengths", ("batch",), self.lengths_dtype))
        for index, block in enumerate(self.blocks):
            if isinstance(block, Recurrent) and block.initial == "given":
                found += [Input(f"{s}_{index}", (block.rows, "batch", n)) for s, n in block.states.items()]
        return tuple(found)


@dataclass
class _Drawing:
    """What the blocks so far have made."""

    width: int
    packed: bool = False
    blocks: list[Block] = field(default_factory=list)
    takes: dict[int, int] = field(default_factory=dict)  # recurrent block → width of its input

    def add(self, block: Block) -> None:
        if isinstance(block, Recurrent):
            self.takes[len(self.blocks)] = self.width
            self.width = block.width
        elif isinstance(block, (Pack, Unpack)):
            self.packed = isinstance(block, Pack)
        self.blocks.append(block)

    @property
    def last(self) -> Recurrent | None:
        return next((block for block in reversed(self.blocks) if isinstance(block, Recurrent)), None)


@st.composite
def architectures(draw: st.DrawFn) -> Architecture:
    """Any model of one to four blocks, of which at least one is recurrent."""
    width = draw(st.integers(1, 5))
    drawing = _Drawing(width)
    for _ in range(draw(st.integers(1, 4))):
        if not drawing.packed and draw(st.booleans()):
            drawing.add(draw(_packs))
        elif drawing.packed and drawing.last and draw(st.integers(0, 3)) == 0:
            drawing.add(draw(_unpacks))
        drawing.add(draw(_block(drawing)))
    if drawing.last is None:
        drawing.add(draw(_recurrent(drawing)))
    if drawing.packed:
        drawing.add(draw(_unpacks))
    return Architecture(
        source=draw(st.sampled_from(["ids", "features"])),
        width=width,
        blocks=tuple(drawing.blocks),
        head=draw(st.sampled_from(HEADS)),
        finals=draw(st.booleans()),
        time_major=draw(st.booleans()),
        lengths_dtype=draw(st.sampled_from(["int64", "int64", "int32"])),
    )


_packs = st.builds(
    Pack,
    lengths=st.sampled_from(["tensor", "cpu", "list"]),
    order=st.sampled_from(["any", "any", "sorted", "by hand"]),
    batch_first=st.booleans(),
)
_unpacks = st.builds(
    Unpack,
    total=st.sampled_from(["seq", "max", "longer"]),
    padding_value=st.sampled_from([0.0, 0.0, -1.5]),
    batch_first=st.booleans(),
)
_per_steps = st.builds(
    PerStep,
    kind=st.sampled_from(["linear", "norm", "relu", "dropout", "tanh"]),
    residual=st.booleans(),
    rebuilt=st.sampled_from(["constructor", "replace"]),
)


def _block(drawing: _Drawing) -> st.SearchStrategy[Block]:
    """Any block that fits; recurrent ones are the likeliest."""
    choices: list[st.SearchStrategy[Any]] = [_recurrent(drawing), _recurrent(drawing), _per_steps]
    if not drawing.packed:
        choices.append(st.builds(Convolution, kernel=st.sampled_from([1, 3])))
    again = [i for i, width in drawing.takes.items() if width == drawing.width]
    if again:
        choices.append(st.sampled_from(again).map(lambda i: replace(_recurrent_at(drawing, i), initial="none")))
    return st.one_of(choices)


def _recurrent_at(drawing: _Drawing, index: int) -> Recurrent:
    block = drawing.blocks[index]
    assert isinstance(block, Recurrent)
    return block


@st.composite
def _recurrent(draw: st.DrawFn, drawing: _Drawing) -> Recurrent:
    cell = draw(st.sampled_from(CELLS))
    units = draw(st.integers(2, 5))
    block = Recurrent(
        cell=cell,
        units=units,
        num_layers=draw(st.integers(1, 2)),
        bidirectional=draw(st.booleans()),
        bias=draw(st.booleans()),
        proj_size=draw(st.integers(0, units - 1)) if cell == "lstm" else 0,
        batch_first=draw(st.booleans()),
        initial=draw(st.sampled_from(["none", "none", "zeros", "learned", "given"])),
        layer=len(drawing.blocks),
    )
    before = drawing.last
    if before and (before.rows, before.states) == (block.rows, block.states) and draw(st.booleans()):
        return replace(block, initial="previous")
    return block
