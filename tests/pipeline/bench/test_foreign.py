"""What others take of the machine is told from what the benchmark takes."""

from __future__ import annotations

import os

import pytest

from seqport.pipeline.bench import foreign
from seqport.pipeline.bench.foreign import ForeignLoad


@pytest.mark.parametrize(
    ("busy", "own", "share"),
    [(100, 100, 0.0), (100, 0, 0.5), (150, 100, 0.25), (90, 100, 0.0)],
)
def test_the_share_of_others(monkeypatch, busy, own, share):
    machine = iter([(1000, 5000), (1000 + busy, 5200)])
    used = iter([7, 30, 7, 30 + own])  # this process, and the one that it started
    monkeypatch.setattr(foreign, "_machine", lambda: next(machine))
    monkeypatch.setattr(foreign, "_process", lambda _: next(used))
    assert ForeignLoad(lambda: [4]).share() == share


def test_a_system_that_does_not_say(monkeypatch):
    monkeypatch.setattr(foreign, "_machine", lambda: None)
    assert ForeignLoad(list).share() is None


@pytest.mark.skipif(not os.path.exists("/proc/stat"), reason="Linux alone counts processor time there")  # noqa: PTH110
def test_this_process_is_counted():
    before = foreign._process(os.getpid())
    while foreign._process(os.getpid()) < before + 3:
        sum(range(10000))
    machine = foreign._machine()
    assert machine is not None and machine[1] > machine[0] > 0
    assert foreign._process(2**22 + 1) == 0
