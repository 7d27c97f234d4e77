"""Runs the grid: what is measured already is taken from the store, everything else is raced and kept."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from seqport.pipeline.bench.cases import Case
from seqport.pipeline.bench.contestants.entry import Entry, entries_for
from seqport.pipeline.bench.contestants.sessions import artifact_path
from seqport.pipeline.bench.race import Outcome, Referee, export
from seqport.pipeline.bench.store import Store
from seqport.pipeline.bench.workers import Workers
from seqport.pipeline.errors import PipelineError
from seqport.pipeline.report import Step


def run(
    cases: Sequence[Case],
    store: Store,
    folder: Path,
    step: Step = lambda _: None,
    *,
    seconds: float = 5.0,
    device: str = "cpu",
    peers: Sequence[str] | None = None,
    make: bool = True,
) -> None:
    """Measure cases that the store does not have.

    Args:
        cases: those of one network together.
        store: where outcomes go, one by one.
        folder: for artifacts and what the workers print.
        step: called after each case.
        seconds: a case may take about so long, beyond its fewest rounds.
        device: "cpu" or "cuda".
        peers: who takes part, by name; everyone where left out.
        make: whether artifacts are made here, or were put into the folder.
    """
    with Workers(folder) as workers:
        referee = Referee(workers, seconds, make=make)
        for case in cases:
            entries = entries_for(case, device, peers)
            if store.has(case, _names(entries)):
                step(f"{case.key}: measured before")
                continue
            outcome = referee.race(case, entries)
            store.add(outcome, _names(entries))
            step(f"{case.key}: {_short(outcome)}")


def export_all(cases: Sequence[Case], folder: Path, step: Step = lambda _: None) -> None:
    """Export the networks of some cases, for a machine that cannot.

    Raises:
        PipelineError: one cannot be exported.
    """
    with Workers(folder) as workers:
        for network in dict.fromkeys(case.network for case in cases):
            problem = export(workers, "pytorch", network)
            if problem:
                raise PipelineError(f"{network.key}: {problem}")
            step(artifact_path(folder, network).name)


def _names(entries: Sequence[Entry]) -> list[str]:
    return [entry.name for entry in entries]


def _short(outcome: Outcome) -> str:
    missing = f", not {', '.join(outcome.failed)}" if outcome.failed else ""
    return f"{len(outcome.timings)} timed{missing}"
