"""Costs are measured in rounds: what disturbs the machine for a while does not stay in them."""

from __future__ import annotations

import numpy as np
import pytest

from seqport.runtime.rewriting import measure


class Machine:
    """A clock that runs pass on, several times as slowly while somebody else is busy."""

    def __init__(self, busy_until: float) -> None:
        self.now, self._busy_until, self.runs = 0.0, busy_until, 0

    def run(self, feed: dict[str, np.ndarray]) -> None:
        self.runs += 1
        self.now += float(feed["seconds"]) * (6 if self.now < self._busy_until else 1)


def _settled(monkeypatch: pytest.MonkeyPatch, machine: Machine, costs: list[float]) -> list[float]:
    monkeypatch.setattr(measure, "perf_counter", lambda: machine.now)
    probes = [measure._Probe(machine.run, {"seconds": np.array(cost)}) for cost in costs]
    measure._settle(probes)
    return [probe.seconds for probe in probes]


@pytest.mark.parametrize("busy_until", [0.0, 0.003, 0.02])
def test_a_disturbance_does_not_last(monkeypatch: pytest.MonkeyPatch, busy_until: float) -> None:
    costs = [1e-5, 5e-5, 2e-4, 1e-3]
    assert _settled(monkeypatch, Machine(busy_until), costs) == pytest.approx(costs)


def test_long_runs_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(0.0)
    assert _settled(monkeypatch, machine, [0.5, 2.0]) == pytest.approx([0.5, 2.0])
    assert machine.runs == 2 + 2 * 4  # the first of each, then two of each in each of two rounds
