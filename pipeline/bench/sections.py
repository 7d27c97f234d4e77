"""The parts of a page that are made of outcomes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from statistics import median
from typing import Any

from seqport.pipeline.bench.contestants.entry import REFERENCE
from seqport.pipeline.bench.race import Outcome
from seqport.pipeline.bench.tables import limit_cell, listed, table, time_cell
from seqport.pipeline.bench.view import NOISE, Grid, contestants, faster, grids, own_name, ratios_to, times_limit

_LISTS = """\
`Session.predict` (the column of seqport) and other ways to answer 512 rows of any length; milliseconds a list. *Padded
to the longest* makes batches of 64 in the order of arrival; *fixed buckets* sorts by lengths up to 8, 16, 32, … steps.
Both run on seqport's session, and on ONNX Runtime's own. PyTorch packs the whole list at once.
"""
_PICTURES = """\
Lower is better; the dotted line is the limit. A product of few rows is bound by memory, so that there the limit is far
below what the processor computes in large products.
"""


@dataclass(frozen=True)
class Run:
    """Everything that a page tells of.

    Attributes:
        outcomes: of the cases that were measured, those of one group together.
        missing: how many cases of the whole grid were not.
        machine: as `machine.describe` gives it.
        dates: days of the measurements.
        command: that repeats them.
        pictures: folder of the pictures, as the page links to it.
        on_gpu: whether this is the GPU half.
    """

    outcomes: Sequence[Outcome]
    missing: int
    machine: dict[str, Any]
    dates: Sequence[str]
    command: str
    pictures: str
    on_gpu: bool = False


def of_kind(run: Run, kind: str) -> list[Outcome]:
    """The outcomes of batches, lists or streams."""
    return [outcome for outcome in run.outcomes if outcome.case.kind == kind]


def ratios(run: Run) -> Iterator[str]:
    """How many times as long as seqport each one takes, by grid and fill."""
    batches = of_kind(run, "batch")
    if not batches:
        return
    names = [name for name in contestants(batches) if name not in map(own_name, batches)]
    yield "## How many times as long as seqport"
    yield ""
    yield "Medians over all sizes and batches, in brackets the least and the most. The last column is for B ≥ 32."
    yield ""
    rows = []
    for grid in grids(batches):
        for fill in grid.fills:
            own = [outcome for outcome in grid.outcomes if outcome.case.fill == fill]
            share = times_limit([outcome for outcome in own if outcome.case.batch >= 32])
            cells = [_ratio_cell(ratios_to(own, name)) for name in names]
            rows.append([f"{grid.title}, {fill:.0%} valid", *cells, "–" if share is None else f"{share:.2f}"])
    yield from table(["", *names, "seqport ÷ limit"], rows)


def losses(run: Run) -> Iterator[str]:
    """Every case in which somebody else is faster."""
    if not run.outcomes:
        return
    yield "## Where seqport is not the fastest"
    yield ""
    found = [(outcome, faster(outcome)) for outcome in run.outcomes]
    found = [(outcome, others) for outcome, others in found if others]
    share = f"{len(found)} of {len(run.outcomes)} cases"
    yield f"In {share} somebody was faster by more than {NOISE:.0%}; how many times as long seqport took:"
    yield ""
    for title, several in groupby(found, key=lambda pair: _group(pair[0])):
        yield f"- {title}: " + "; ".join(f"{_place(o)} ({listed(others)})" for o, others in several) + "."
    if found:
        yield ""


def pictures(run: Run) -> Iterator[str]:
    """A picture a grid."""
    drawn = pictured(run)
    if not drawn:
        return
    yield f"## {'Milliseconds' if run.on_gpu else 'Time ÷ limit'}"
    yield ""
    yield "Lower is better.\n" if run.on_gpu else _PICTURES
    what = "milliseconds" if run.on_gpu else "time divided by the limit"
    for grid in drawn:
        yield f"![{grid.title}: {what}, over the batch size]({run.pictures}/{grid.key}.svg)"
        yield ""


def pictured(run: Run) -> list[Grid]:
    """Those that have a picture: on a CPU it needs the limit."""
    return [grid for grid in grids(run.outcomes) if run.on_gpu or grid.has_limit]


def lists(run: Run) -> Iterator[str]:
    """Lists of rows, by `predict` and otherwise."""
    outcomes = of_kind(run, "list")
    if not outcomes:
        return
    names = contestants(outcomes)
    yield "## Lists of rows"
    yield ""
    yield _LISTS
    yield from table(["", *names], ([_list_title(o), *(time_cell(o, name) for name in names)] for o in outcomes))


def streams(run: Run) -> Iterator[str]:
    """One step a call."""
    outcomes = of_kind(run, "stream")
    if not outcomes:
        return
    names = contestants(outcomes)
    yield "## Streams of one step"
    yield ""
    yield "One row, one step a call, the state carried from call to call; µs a step."
    yield ""
    yield f"![Microseconds a step, by network]({run.pictures}/streams.svg)"
    yield ""
    shown = ["PyTorch" if name == REFERENCE else name for name in names]
    yield from table(["", *shown], ([_network(o), *(time_cell(o, name, 1e6) for name in names)] for o in outcomes))


def failures(run: Run) -> Iterator[str]:
    """Who was not timed, and why."""
    reasons = Counter(
        (name, why.partition(": off by")[0]) for outcome in run.outcomes for name, why in outcome.failed.items()
    )
    if not reasons:
        return
    yield "## Not timed"
    yield ""
    for (name, why), count in reasons.items():
        yield f"- {name}, {count} {'case' if count == 1 else 'cases'}: {why}"
    yield ""


def numbers(run: Run) -> Iterator[str]:
    """A table a grid."""
    if not of_kind(run, "batch"):
        return
    yield "## All numbers"
    yield ""
    yield "Milliseconds a batch. **Bold** is the fastest; *valid* is the share of valid steps; *wrong* is not timed."
    yield ""
    for grid in grids(run.outcomes):
        yield f"### {grid.title}"
        yield ""
        names = contestants(grid.outcomes)
        yield from table(["H", "B", "valid", "limit", *names], _rows(grid, names))


def _rows(grid: Grid, names: Sequence[str]) -> Iterator[list[str]]:
    for outcome in grid.outcomes:
        case = outcome.case
        first = [str(case.network.num_hidden_units), str(case.batch), f"{outcome.fill:.0%}"]
        yield [*first, limit_cell(outcome), *(time_cell(outcome, name) for name in names)]


def _ratio_cell(values: Sequence[float]) -> str:
    return f"{median(values):.2f} ({min(values):.2g}–{max(values):.2g})" if values else "–"


def _group(outcome: Outcome) -> str:
    network, kind = outcome.case.network, outcome.case.kind
    direction = "bidirectional" if network.bidirectional else "unidirectional"
    return f"{network.cell.upper()}, {direction if kind == 'batch' else f'{kind}s'}"


def _network(outcome: Outcome) -> str:
    return f"{outcome.case.network.cell.upper()} H={outcome.case.network.num_hidden_units}"


def _place(outcome: Outcome) -> str:
    case = outcome.case
    size = f"H={case.network.num_hidden_units}"
    if case.kind == "stream":
        return size
    return f"{size} B={case.batch} " + (f"T={case.steps} " if case.kind == "list" else "") + f"{case.fill:.0%}"


def _list_title(outcome: Outcome) -> str:
    case = outcome.case
    return f"{_network(outcome)}, {case.batch} rows of up to {case.steps} steps, {outcome.fill:.0%} valid"
