"""Processes of a race that find this folder's contestants, and outcomes made up for pages."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from seqport.pipeline.bench.cases import Case, Network, draw
from seqport.pipeline.bench.contestants import Entry
from seqport.pipeline.bench.race import Outcome
from seqport.pipeline.bench.timing import Timing
from seqport.pipeline.bench.workers import Workers

TESTS = Path(__file__).parents[2]
LSTM = Network("lstm", 64)


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Processes of a race take one thread each: tests run beside other tests, and the numbers do not count here."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
            patch.setenv(name, "1")
        yield


@pytest.fixture
def workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workers]:
    """Processes that can import `support.racers`."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")]))
    with Workers(tmp_path) as opened:
        yield opened


@pytest.fixture
def racer() -> Callable[..., Entry]:
    """An entry of one of `support.racers`, by its class."""

    def make(kind: str, name: str = "", worker: str = "one", **options: object) -> Entry:
        return Entry(name or kind, worker, f"support.racers:{kind}", **options)  # type: ignore[arg-type]

    return make


@pytest.fixture
def outcome() -> Callable[..., Outcome]:
    """An outcome from milliseconds by name."""

    def make(case: Case, failed: dict[str, str] | None = None, **ms: float | tuple[float, ...]) -> Outcome:
        rounds = {name: value if isinstance(value, tuple) else (value,) * 3 for name, value in ms.items()}
        timings = {name: Timing(tuple(one / 1e3 for one in several)) for name, several in rounds.items()}
        return Outcome(case, draw(case).valid_steps, timings, failed or {}, 0.01)

    return make
