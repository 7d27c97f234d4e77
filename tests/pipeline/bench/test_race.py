"""A race compares before it times, and whoever fails costs their own row."""

from __future__ import annotations

import re

import numpy as np
import pytest

from seqport.pipeline.bench import race
from seqport.pipeline.bench.cases import Case, Network
from seqport.pipeline.bench.contestants.entry import REFERENCE
from seqport.pipeline.bench.race import Referee, difference_of
from seqport.pipeline.bench.workers import RefusedError, Workers

CASE = Case(Network("lstm", 64), batch=3, steps=5, fill=0.5)


def test_whoever_is_right_is_timed_in_the_same_rounds(workers, racer):
    entries = [racer("Slow"), racer("Right", REFERENCE)]
    outcome = Referee(workers, seconds=0.1, make=False).race(CASE, entries)
    assert list(outcome.timings) == ["Slow", REFERENCE] and not outcome.failed
    slow, fast = outcome.timings["Slow"], outcome.timings[REFERENCE]
    assert len(slow.rounds) == len(fast.rounds) >= 3
    assert slow.median > 0.02 and slow.ratio(fast) > 20


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("Wrong", "wrong answers at valid steps: off by 0.5"),
        ("NotANumber", "wrong answers at valid steps: off by nan"),
        ("TooLong", r"wrong answers: shape \(16, 1\), expected \(8, 1\)"),
        ("Refuses", "lstm-64 is not for me"),
        ("Raises", "ValueError: of no use"),
        ("Missing", "no_such_framework is not installed"),
        ("Hangs", "took longer than 2 s"),
        ("Dies", "the process ended by signal 9"),
        ("Ends", "the process ended with code 3"),
    ],
)
def test_whoever_fails_says_why_and_the_others_go_on(workers, racer, kind, why):
    entries = [racer(kind, seconds=2.0), racer("Right", REFERENCE), racer("Right", "another")]
    outcome = Referee(workers, seconds=0.0, make=False).race(CASE, entries)
    assert list(outcome.timings) == [REFERENCE, "another"]
    assert list(outcome.failed) == [kind] and re.fullmatch(why, outcome.failed[kind])


def test_without_the_reference_nobody_is_right(workers, racer):
    outcome = Referee(workers, make=False).race(CASE, [racer("Right"), racer("Raises", REFERENCE)])
    assert not outcome.timings
    assert outcome.failed["Right"] == "PyTorch packed, which the others are compared with, failed"


def test_limits_are_not_compared(workers, racer):
    entries = [racer("Right", REFERENCE), racer("Wrong", "limit", limit=True)]
    assert list(Referee(workers, seconds=0.0, make=False).race(CASE, entries).timings) == [REFERENCE, "limit"]


def test_turns_alternate(workers, racer, monkeypatch):
    asked: list[str] = []
    ask = Workers.ask

    def listening(self, name, request, seconds):
        if request["do"] == "time":
            asked.append(name)
        return ask(self, name, request, seconds)

    monkeypatch.setattr(Workers, "ask", listening)
    entries = [racer("Right", REFERENCE, "a"), racer("Right", "other", "b")]
    Referee(workers, seconds=0.0, make=False).race(CASE, entries)
    assert "".join(asked) == "ab" + "abbaab"  # one to see how long it takes


def test_an_artifact_that_cannot_be_made_is_a_reason(workers, racer, monkeypatch):
    monkeypatch.setattr(race, "_CONTESTANTS", "support.no_such_module")
    entries = [racer("Right", "a session", "onnxruntime"), racer("Right", REFERENCE)]
    outcome = Referee(workers, seconds=0.0).race(CASE, entries)
    assert outcome.failed["a session"].startswith("no file to run: support.no_such_module is not installed")
    assert list(outcome.timings) == [REFERENCE]


def test_a_process_that_did_not_start_says_its_last_line(workers, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/nowhere")
    monkeypatch.setattr("seqport.pipeline.bench.workers._MODULE", "no_such_worker")
    with pytest.raises(RefusedError, match=r"the process ended with code 1: .*No module named no_such_worker"):
        workers.ask("one", {"do": "forget"}, 20)


def test_the_tolerance_is_for_every_number():
    reference = np.zeros((50, 4), np.float32)
    answer = reference.copy()
    assert difference_of(answer, reference) == ""
    answer[49, 3] = 2e-4
    assert difference_of(answer, reference) == "wrong answers at valid steps: off by 0.0002"


@pytest.mark.parametrize(("kinds", "rounds"), [(("Long", "Long"), 3), (("Long", "Right"), 4)])
def test_a_first_turn_is_a_round_where_all_calls_are_long(workers, racer, monkeypatch, kinds, rounds):
    asked = []
    ask = Workers.ask

    def listening(self, name, request, seconds):
        asked.append(request["do"])
        return ask(self, name, request, seconds)

    monkeypatch.setattr(Workers, "ask", listening)
    entries = [racer(kinds[0], REFERENCE), racer(kinds[1], "other", "two")]
    outcome = Referee(workers, seconds=0.0, make=False).race(CASE, entries)
    assert asked.count("time") == 2 * rounds
    assert all(len(timing.rounds) == 3 for timing in outcome.timings.values())
