"""Cells of tables: a time with its spread, the fastest in bold, a reason where there is none."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from seqport.pipeline.bench.race import Outcome
from seqport.pipeline.bench.timing import Timing
from seqport.pipeline.bench.view import contestants, limit_of


def table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """The lines of a Markdown table, and an empty one."""
    yield _row(headers)
    yield "|---" * len(headers) + "|"
    yield from map(_row, rows)
    yield ""


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def time_text(timing: Timing, unit: float = 1e3) -> str:
    """The median, ± half the distance of the quartiles as a share of it."""
    low, middle, high = timing.quartiles
    value = middle * unit
    digits = 0 if value >= 100 else 1 if value >= 10 else 2 if value >= 1 else 3
    return f"{value:.{digits}f} ±{(high - low) / 2 / middle:.0%}"


def time_cell(outcome: Outcome, name: str, unit: float = 1e3) -> str:
    """A contestant's time, bold where it is the shortest, or a word for why there is none."""
    timing = outcome.timings.get(name)
    if timing is None:
        return "*wrong*" if outcome.failed.get(name, "").startswith("wrong answers") else "–"
    text = time_text(timing, unit)
    return f"**{text}**" if name == fastest(outcome) else text


def limit_cell(outcome: Outcome, unit: float = 1e3) -> str:
    """The limit's time."""
    limit = limit_of(outcome)
    return "–" if limit is None else time_text(limit, unit)


def fastest(outcome: Outcome) -> str:
    """Whose median is the smallest; empty where nobody was timed."""
    names = [name for name in contestants([outcome]) if name in outcome.timings]
    return min(names, key=lambda name: outcome.timings[name].median, default="")


def listed(ratios: Mapping[str, float]) -> str:
    """Names with their ratios."""
    return ", ".join(f"{name} {ratio:.2f}×" for name, ratio in ratios.items())
