"""One case: everybody answers, the answers are compared, and whoever is right is timed in turns."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np

from seqport.pipeline.bench.cases import Case, Network, draw
from seqport.pipeline.bench.contestants.entry import LOOP, REFERENCE, Entry
from seqport.pipeline.bench.contestants.sessions import artifact_path, loop_path
from seqport.pipeline.bench.foreign import ForeignLoad
from seqport.pipeline.bench.timing import Timing
from seqport.pipeline.bench.worker import plain_case
from seqport.pipeline.bench.workers import RefusedError, Workers

# Answers lie within ±1 and are sums of at most a thousand float32 products, step after step.
TOLERANCE = 1e-4
# A turn lasts about this long, so that waking up and the clock do not count.
_TURN_SECONDS = 0.012
_MOST_CALLS = 1000
# From here on a call is long enough to need no other one before it; an answer may be a first call, which is longer.
_LONG_CALL = 0.05
_LONG_ANSWER = 0.5
_FEWEST_ROUNDS, _MOST_ROUNDS = 3, 25
_ANSWER_SECONDS = 180.0
_CONTESTANTS = "seqport.pipeline.bench.contestants"
_PATHS = {"pytorch": artifact_path, "keras": loop_path}


@dataclass(frozen=True)
class Outcome:
    """What came of one case.

    Attributes:
        case: what was measured.
        valid_steps: of all its rows.
        timings: contestant to its timing, all of them with the same rounds.
        failed: contestant to the reason why it was not timed.
        foreign: the share of the machine that processes outside the benchmark took meanwhile; None where unknown.
    """

    case: Case
    valid_steps: int
    timings: dict[str, Timing]
    failed: dict[str, str] = field(default_factory=dict)
    foreign: float | None = None

    @property
    def fill(self) -> float:
        """The share of valid steps, as drawn."""
        return self.valid_steps / (self.case.batch * self.case.steps)


class Referee:
    """Runs the races of one benchmark.

    Args:
        workers: where contestants run.
        seconds: a case may take about so long, beyond its fewest rounds.
        make: whether missing artifacts are made; else they must be in the workers' folder.
    """

    def __init__(self, workers: Workers, seconds: float = 5.0, *, make: bool = True) -> None:
        self._workers = workers
        self._seconds = seconds
        self._make = make
        self._unmade: dict[Path, str] = {}
        self._network: Network | None = None
        self._answered: dict[str, float] = {}  # seconds

    def race(self, case: Case, entries: Sequence[Entry]) -> Outcome:
        """Compare and time; a contestant that fails costs its own row."""
        if case.network != self._network:
            self._begin(case.network, entries)
        foreign = ForeignLoad(self._workers.pids)
        failed: dict[str, str] = {}
        right = self._right(case, entries, failed)
        timings = self._timed(case, right, failed)
        return Outcome(case, draw(case).valid_steps, timings, failed, foreign.share())

    def _begin(self, network: Network, entries: Sequence[Entry]) -> None:
        """Drop the network before, and make the artifacts of the next one."""
        self._network = network
        self._workers.tell_all({"do": "forget"})
        self._unmade.clear()
        if not self._make:
            return
        self._export("pytorch")
        if any(entry.name == LOOP for entry in entries):
            self._export("keras")

    def _export(self, framework: str) -> None:
        assert self._network is not None
        problem = export(self._workers, framework, self._network)
        if problem:
            self._unmade[_PATHS[framework](self._workers.folder, self._network)] = problem

    def _right(self, case: Case, entries: Sequence[Entry], failed: dict[str, str]) -> list[Entry]:
        """Who answers as the reference does."""
        reference: np.ndarray | None = None
        right: list[Entry] = []
        for entry in sorted(entries, key=lambda entry: entry.name != REFERENCE):
            try:
                answer = self._answer(case, entry)
            except RefusedError as error:
                failed[entry.name] = str(error)
                continue
            if entry.name == REFERENCE:
                reference = answer
            difference = "" if entry.limit else difference_of(answer, reference)
            if difference:
                failed[entry.name] = difference
            else:
                right.append(entry)
        return [entry for entry in entries if entry in right]  # in the list's order again

    def _answer(self, case: Case, entry: Entry) -> np.ndarray:
        folder = self._workers.folder
        needed = loop_path(folder, case.network) if entry.name == LOOP else artifact_path(folder, case.network)
        if needed in self._unmade and entry.worker in ("onnxruntime", "openvino"):
            raise RefusedError(self._unmade[needed])
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / "answer.npy"
            said = self._ask(entry, {"do": "answer", "path": str(path)}, case, entry.seconds)
            self._answered[entry.name] = said["seconds"]
            return np.load(path)

    def _timed(self, case: Case, entries: Sequence[Entry], failed: dict[str, str]) -> dict[str, Timing]:
        found: dict[str, list[float]] = {}
        for entry in entries:
            warm = 0 if self._answered[entry.name] > _LONG_ANSWER else 1
            for seconds in self._turn(case, entry, _Plan(1, warm), failed):
                found[entry.name] = [seconds]
        plans = {name: _Plan.of(seconds) for name, (seconds,) in found.items()}
        number = 1
        if any(plan.warm for plan in plans.values()):  # else this was a round like those that follow
            found, number = {name: [] for name in plans}, 0
        until = monotonic() + self._seconds
        while number < _FEWEST_ROUNDS or (number < _MOST_ROUNDS and monotonic() < until):
            order = [entry for entry in entries if entry.name in plans and entry.name not in failed]
            for entry in order if number % 2 == 0 else reversed(order):
                found[entry.name] += self._turn(case, entry, plans[entry.name], failed)
            number += 1
        return {name: Timing(tuple(seconds)) for name, seconds in found.items() if name not in failed}

    def _turn(self, case: Case, entry: Entry, plan: _Plan, failed: dict[str, str]) -> Iterator[float]:
        """The seconds of one call; nothing where the contestant fails."""
        request = {"do": "time", "calls": plan.calls, "warm": plan.warm}
        try:
            yield self._ask(entry, request, case, _ANSWER_SECONDS)["seconds"]
        except RefusedError as error:
            failed[entry.name] = str(error)

    def _ask(self, entry: Entry, request: dict[str, Any], case: Case, seconds: float) -> dict[str, Any]:
        return self._workers.ask(entry.worker, {**request, "maker": entry.maker, "case": plain_case(case)}, seconds)


@dataclass(frozen=True)
class _Plan:
    """How many calls make a turn, and how many go before them."""

    calls: int
    warm: int

    @classmethod
    def of(cls, seconds: float) -> _Plan:
        calls = min(_MOST_CALLS, max(1, round(_TURN_SECONDS / max(seconds, 1e-9))))
        return cls(calls, 0 if seconds > _LONG_CALL else max(1, calls // 5))


def export(workers: Workers, framework: str, network: Network) -> str:
    """Make an artifact in the workers' folder: seqport's from "pytorch", tf2onnx's from "keras".

    Returns:
        Why there is none; empty where it was made.
    """
    path = _PATHS[framework](workers.folder, network)
    worker = "tensorflow" if framework == "keras" else framework
    request = {"do": "make", "maker": f"{_CONTESTANTS}.{framework}:export", "network": vars(network), "path": str(path)}
    try:
        workers.ask(worker, request, _ANSWER_SECONDS)
    except RefusedError as error:
        return f"no file to run: {error}"
    return ""


def difference_of(answer: np.ndarray, reference: np.ndarray | None) -> str:
    """Why an answer is not the reference's; empty where it is."""
    if reference is None:
        return f"{REFERENCE}, which the others are compared with, failed"
    if answer.shape != reference.shape:
        return f"wrong answers: shape {answer.shape}, expected {reference.shape}"
    furthest = float(np.abs(answer - reference).max(initial=0.0))
    if furthest <= TOLERANCE:  # NaN is not
        return ""
    return f"wrong answers at valid steps: off by {furthest:.2g}"
