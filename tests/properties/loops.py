"""Recurrent cells written out in ONNX as plain data: which cell, in which of its many spellings, in which loop."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import strategies as st

GATES = {"rnn": "h", "gru": "zrn", "lstm": "ifog"}
FORMS = ("scan", "loop", "unrolled")


@dataclass(frozen=True)
class Cell:
    """One cell's equations, and how they are spelled."""

    kind: str  # rnn, gru, lstm
    units: int
    features: int
    order: str  # of the gates, where one matrix holds all
    joined: bool  # one matrix and a Split, or a matrix each
    activation: str = "Tanh"
    gate: str = "Sigmoid"
    biases: str = "input"  # or "none", "both"
    reset_before: bool = False
    blend: str = "both"  # a GRU's h: "both" z h + (1 - z) n; "state" (1 - z) h + z n; "step" h + z (n - h)
    swapped: bool = False  # the operands of sums and products the other way round


@dataclass(frozen=True)
class Loop:
    """A cell over time.

    `gated` is "none", "lengths" (int64 [batch]) or "mask" (bool); it chooses between states by Where, or by a sum
    weighted with 0 and 1. A padded output is zero or the held state.
    """

    cell: Cell
    form: str
    gated: str = "none"
    weighted: bool = False
    padded: str = "zero"
    backwards: bool = False
    given_state: bool = True


@st.composite
def cells(draw: st.DrawFn) -> Cell:
    """Any cell in any spelling."""
    kind = draw(st.sampled_from(list(GATES)))
    return Cell(
        kind=kind,
        units=draw(st.integers(2, 4)),
        features=draw(st.integers(1, 4)),
        order="".join(draw(st.permutations(GATES[kind]))),
        joined=draw(st.booleans()),
        activation=draw(st.sampled_from(["Tanh", "Tanh", "Relu", "Softsign", "Elu"])),
        gate=draw(st.sampled_from(["Sigmoid", "Sigmoid", "HardSigmoid"])),
        biases=draw(st.sampled_from(["none", "input", "both"])),
        reset_before=draw(st.booleans()),
        blend=draw(st.sampled_from(["both", "state", "step"])),
        swapped=draw(st.booleans()),
    )


loops = st.builds(
    Loop,
    cell=cells(),
    form=st.sampled_from(FORMS),
    gated=st.sampled_from(["none", "lengths", "mask"]),
    weighted=st.booleans(),
    padded=st.sampled_from(["zero", "hold"]),
    backwards=st.booleans(),
    given_state=st.booleans(),
)
