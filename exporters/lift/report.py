"""What a lift did: every loop of the model, lifted or left alone, and why."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Lifted:
    """One recurrent cell that became a native node.

    Attributes:
        layer: name of the new node, from the loop it came from.
        source: "Loop", "Scan" or "unrolled steps".
        cell: "rnn", "gru" or "lstm".
        num_hidden_units: size of the state.
        direction: "forward" or "reverse".
        gate: "lengths", "mask" or "" where every step is valid.
        difference: the largest difference between the loop and the native node in the proof, relative to the
            largest value where that is above 1.
        steps: of unrolled steps, how many the file has always read, whatever the input's length; else None.
    """

    layer: str
    source: str
    cell: str
    num_hidden_units: int
    direction: str
    gate: str
    difference: float = 0.0
    steps: int | None = None

    def __str__(self) -> str:
        gated = f", {self.gate}" if self.gate else ""
        source = self.source if self.steps is None else f"{self.steps} {self.source}"
        return (
            f"{self.layer}: {source} lifted to {self.cell.upper()} "
            f"({self.num_hidden_units} units, {self.direction}{gated}), proven to {self.difference:.1g}"
        )


@dataclass(frozen=True)
class LeftAlone:
    """One loop that stayed.

    Attributes:
        node: name of the node.
        source: its operator, or "unrolled steps".
        reason: why it stayed.
    """

    node: str
    source: str
    reason: str

    def __str__(self) -> str:
        return f"{self.node}: {self.source} left alone: {self.reason}"


@dataclass(frozen=True)
class Report:
    """Every loop of a model.

    Attributes:
        lifted: cells that became native nodes, in the graph's order.
        left: loops that stayed, and why.
    """

    lifted: tuple[Lifted, ...] = ()
    left: tuple[LeftAlone, ...] = ()

    def __str__(self) -> str:
        return "\n".join(map(str, (*self.lifted, *self.left))) or "no loop found"
