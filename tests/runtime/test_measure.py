"""Costs are measured in rounds: what disturbs the machine for a while does not stay in them."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper

from seqport.runtime.rewriting import measure
from seqport.runtime.rewriting.native import Native


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


@pytest.mark.parametrize("skips", [True, False])
def test_what_the_node_leaves_out_itself_is_found(monkeypatch: pytest.MonkeyPatch, skips: bool) -> None:
    machine = Machine(0.0)
    monkeypatch.setattr(measure, "perf_counter", lambda: machine.now)

    def run(feed: dict[str, np.ndarray]) -> None:
        lengths = feed["lengths"]
        rows = lengths.sum() if skips else lengths.max() * len(lengths)
        machine.run({"seconds": 1e-5 + 1e-6 * rows})

    native = Native(helper.make_node("LSTM", ["x", "W", "R", "B", "lengths"], ["Y"]), {"hidden_size": 8})
    cost, _ = measure.Measure(lambda _: run).of(native, 4)
    assert cost.padded == pytest.approx((1e-6, 8e-6, 64e-6))
    assert cost.ended == pytest.approx((1e-6, 1e-6, 1e-6) if skips else (1e-6, 8e-6, 64e-6))
