"""The key ratios in under a minute, as numbers with stable names: what a check for regressions looks at."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from seqport.pipeline.bench.cases import Case, Network
from seqport.pipeline.bench.contestants.entry import ENTRIES, NODE, OWN, PACKED, PADDED, entries_for
from seqport.pipeline.bench.race import Outcome, Referee
from seqport.pipeline.bench.workers import Workers
from seqport.pipeline.errors import PipelineError
from seqport.pipeline.report import Step

LONGEST, BUCKETS = "padded to the longest", "fixed buckets"
LIMITS = tuple(entry.name for entry in ENTRIES if entry.limit)
_PEERS = (OWN, NODE, PACKED, PADDED, LONGEST, BUCKETS, *LIMITS)


@dataclass(frozen=True)
class Key:
    """One number.

    Attributes:
        case: where it is measured.
        said: what it is, for the documentation.
        value: how it follows from the case's outcome.
    """

    case: Case
    said: str
    value: Callable[[Outcome], float]


def speedup(other: str, outcome: Outcome) -> float:
    """How many times as long as seqport the other takes."""
    return outcome.timings[other].ratio(outcome.timings[OWN])


def times_limit(outcome: Outcome) -> float:
    """How many times as long as the matrix products alone seqport takes."""
    # The faster one is the limit, which seqport takes more times as long as.
    return max(outcome.timings[OWN].ratio(outcome.timings[name]) for name in LIMITS if name in outcome.timings)


def overhead_us(outcome: Outcome) -> float:
    """Microseconds that seqport adds to the padded node."""
    return outcome.timings[OWN].excess(outcome.timings[NODE]) * 1e6


def overhead_percent(outcome: Outcome) -> float:
    """The same as a share of the padded node's time."""
    return (outcome.timings[OWN].ratio(outcome.timings[NODE]) - 1) * 100


def keys(hidden: int = 256, scale: float = 1.0) -> dict[str, Key]:
    """The numbers by name.

    Args:
        hidden: units of the layers; the names are for 256.
        scale: of rows and steps, below 1 for a test that only looks whether it runs.
    """
    lstm, gru, rnn = (Network(cell, hidden) for cell in ("lstm", "gru", "rnn"))

    def size(number: int) -> int:
        return max(2, round(number * scale))

    uniform = Case(lstm, batch=size(128), steps=size(100), fill=0.5)
    exponential = Case(lstm, batch=size(64), steps=size(400), fill=0.18)
    single, full = Case(lstm, batch=1, steps=1), Case(lstm, batch=size(32), steps=size(100))
    rows = Case(lstm, "list", batch=size(256), steps=size(400), fill=0.18)
    found = {}
    batches = {
        "b128": (uniform, "B=128, T=100, lengths uniform"),
        "b64_t400": (exponential, "B=64, T=400, exponential"),
    }
    for name, (case, said) in batches.items():
        found[f"ragged_{name}_over_padded"] = Key(case, f"the padded node ÷ seqport; {said}", partial(speedup, NODE))
        found[f"ragged_{name}_over_packed"] = Key(case, f"PyTorch packed ÷ seqport; {said}", partial(speedup, PACKED))
        found[f"ragged_{name}_times_limit"] = Key(case, f"seqport ÷ sgemm of the valid steps; {said}", times_limit)
    found["run_overhead_us"] = Key(single, "`Session.run` – the padded node, µs; B=1, T=1", overhead_us)
    found["run_overhead_percent"] = Key(full, "the same as a share, %; B=32, T=100, no padding", overhead_percent)
    for cell, network in {"rnn": rnn, "gru": gru}.items():
        for batch in (32, 128):
            case = Case(network, batch=size(batch), steps=size(100))
            said = f"PyTorch padded ÷ seqport; {cell.upper()}, B={batch}, T=100, no padding"
            found[f"{cell}_b{batch}_over_pytorch"] = Key(case, said, partial(speedup, PADDED))
    said = "with the same session; 256 rows, lengths exponential up to 400"
    found["predict_over_longest"] = Key(
        rows, f"batches padded to their longest row ÷ `predict`, {said}", partial(speedup, LONGEST)
    )
    found["predict_over_buckets"] = Key(rows, f"fixed buckets ÷ `predict`, {said}", partial(speedup, BUCKETS))
    return found


@dataclass(frozen=True)
class Measured:
    """What came of it.

    Attributes:
        values: a number a key; None where it could not be measured.
        reasons: why not, by contestant and case.
        foreign: the largest share of the machine that others took.
    """

    values: dict[str, float | None]
    reasons: list[str]
    foreign: float


def measure(wanted: Mapping[str, Key], folder: Path, step: Step = lambda _: None, *, seconds: float = 1.6) -> Measured:
    """Measure the cases of some keys, each case once.

    Args:
        wanted: the keys.
        folder: for artifacts.
        step: called after each case.
        seconds: a case may take about so long, beyond its fewest rounds.
    """
    outcomes: dict[Case, Outcome] = {}
    with Workers(folder) as workers:
        referee = Referee(workers, seconds)
        for case in cases_of(wanted):
            outcomes[case] = referee.race(case, entries_for(case, names=_PEERS))
            step(case.key)
    values: dict[str, float | None] = {}
    for name, key in wanted.items():
        try:
            values[name] = round(key.value(outcomes[key.case]), 3)
        except (KeyError, ValueError):  # one that it compares with was not timed
            values[name] = None
    reasons = [f"{case.key}: {name}: {why}" for case, out in outcomes.items() for name, why in out.failed.items()]
    return Measured(values, reasons, max(outcome.foreign or 0.0 for outcome in outcomes.values()))


def cases_of(wanted: Mapping[str, Key]) -> list[Case]:
    """The cases, those of one network together."""
    cases = dict.fromkeys(key.case for key in wanted.values())
    return sorted(cases, key=lambda case: case.network.key)


@dataclass(frozen=True)
class Requirement:
    """A bound on one number."""

    key: str
    at_least: bool
    bound: float

    def broken_by(self, values: Mapping[str, float | None]) -> str:
        """Why the values do not keep it; empty where they do."""
        value = values[self.key]
        if value is not None and (value >= self.bound if self.at_least else value <= self.bound):
            return ""
        return f"{self.key} is {value}, required {'at least' if self.at_least else 'at most'} {self.bound:g}"


def requirements(texts: Sequence[str], known: Mapping[str, Key]) -> list[Requirement]:
    """Bounds as they are written: `rnn_b32_over_pytorch>=1.2`, `run_overhead_us<=20`.

    Raises:
        PipelineError: a text is no bound, or names no key.
    """
    found = []
    for text in texts:
        match = re.fullmatch(r"\s*(\w+)\s*(>=|<=)\s*(-?\d+(?:\.\d+)?)\s*", text)
        if match is None:
            raise PipelineError(f"--require {text!r}: expected KEY>=NUMBER or KEY<=NUMBER")
        if match[1] not in known:
            raise PipelineError(f"--require {text!r}: there is no {match[1]}, expected one of {', '.join(known)}")
        found.append(Requirement(match[1], match[2] == ">=", float(match[3])))
    return found
