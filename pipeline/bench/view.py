"""How outcomes are looked at: by size, fill and batch, beside the limit, and where somebody else is faster."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from seqport.pipeline.bench.cases import CELLS
from seqport.pipeline.bench.contestants.entry import ENTRIES, OWN, OWN_CUDA
from seqport.pipeline.bench.race import Outcome
from seqport.pipeline.bench.timing import Timing

# A difference within this share is the machine's noise, not a loss.
NOISE = 0.03
_LIMITS = {entry.name for entry in ENTRIES if entry.limit}
_NOT_COMPARED = {entry.name for entry in ENTRIES if entry.limit or entry.resident or entry.own}


@dataclass(frozen=True)
class Grid:
    """Batches of one cell in one direction."""

    cell: str
    bidirectional: bool
    outcomes: Sequence[Outcome]

    @property
    def title(self) -> str:
        """For a heading."""
        return f"{self.cell.upper()}, {'bidirectional' if self.bidirectional else 'unidirectional'}"

    @property
    def key(self) -> str:
        """For the name of a file."""
        return f"{self.cell}-{'bi' if self.bidirectional else 'uni'}"

    @property
    def sizes(self) -> list[int]:
        """Hidden units that were measured."""
        return sorted({outcome.case.network.num_hidden_units for outcome in self.outcomes})

    @property
    def fills(self) -> list[float]:
        """Fills that were measured, the fullest first."""
        return sorted({outcome.case.fill for outcome in self.outcomes}, reverse=True)

    @property
    def has_limit(self) -> bool:
        """Whether the limit was measured, which a picture needs."""
        return any(limit_of(outcome) for outcome in self.outcomes)

    def row(self, size: int, fill: float) -> list[Outcome]:
        """Outcomes of one size and fill, by batch size."""
        own = [o for o in self.outcomes if o.case.network.num_hidden_units == size and o.case.fill == fill]
        return sorted(own, key=lambda outcome: outcome.case.batch)


def grids(outcomes: Sequence[Outcome]) -> list[Grid]:
    """Batches by cell and direction; empty ones are left out."""
    found = []
    for cell in CELLS:
        for bidirectional in (False, True):
            own = [
                outcome
                for outcome in outcomes
                if outcome.case.kind == "batch"
                and outcome.case.network.cell == cell
                and outcome.case.network.bidirectional == bidirectional
            ]
            if own:
                found.append(Grid(cell, bidirectional, own))
    return found


def limit_of(outcome: Outcome) -> Timing | None:
    """The faster of the limits; None where neither was measured."""
    limits = [timing for name, timing in outcome.timings.items() if name in _LIMITS]
    return min(limits, key=lambda timing: timing.median, default=None)


def contestants(outcomes: Sequence[Outcome]) -> list[str]:
    """Who took part and is no limit, in the order of the list."""
    seen = {name for outcome in outcomes for name in (*outcome.timings, *outcome.failed)}
    return [entry.name for entry in ENTRIES if entry.name in seen and not entry.limit]


def own_name(outcome: Outcome) -> str:
    """What seqport is called in this outcome: on CUDA another entry is its own."""
    return OWN_CUDA if OWN_CUDA in {*outcome.timings, *outcome.failed} else OWN


def faster(outcome: Outcome) -> dict[str, float]:
    """Who is faster than seqport by more than noise, to how many times as long seqport takes; the fastest first.

    Other ways of seqport's own are not somebody else; whoever keeps input and output on the device does less.
    """
    own = outcome.timings.get(own_name(outcome))
    if own is None:
        return {}
    others = {n: own.ratio(t) for n, t in outcome.timings.items() if n not in _NOT_COMPARED}
    return {name: ratio for name, ratio in sorted(others.items(), key=lambda pair: -pair[1]) if ratio > 1 + NOISE}


def ratios_to(outcomes: Sequence[Outcome], name: str) -> list[float]:
    """How many times as long as seqport a contestant takes, a value a case that both were timed in."""
    pairs = [(o.timings.get(name), o.timings.get(own_name(o))) for o in outcomes]
    return [other.ratio(own) for other, own in pairs if other is not None and own is not None]


def times_limit(outcomes: Sequence[Outcome]) -> float | None:
    """The median of seqport ÷ limit."""
    found = []
    for outcome in outcomes:
        own, limit = outcome.timings.get(own_name(outcome)), limit_of(outcome)
        if own is not None and limit is not None:
            found.append(own.ratio(limit))
    return median(found) if found else None
