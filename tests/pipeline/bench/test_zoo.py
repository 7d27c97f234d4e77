"""The zoo's benchmark times calls in turns, and says where seqport loses."""

from __future__ import annotations

import time

from seqport.pipeline.bench import timing, zoo
from seqport.pipeline.bench.timing import Timing, timed
from seqport.pipeline.bench.zoo import Race
from seqport.pipeline.report import show


def test_calls_take_turns(monkeypatch):
    monkeypatch.setattr(timing, "_SECONDS", 1e-9)  # one call a round
    seen = []
    timings = timed({"a": lambda: seen.append("a"), "b": lambda: seen.append("b")}, rounds=3)
    assert "".join(seen) == "aabb" + "abbaab"  # two to warm up and to measure how many make a round
    assert all(len(timing.rounds) == 3 for timing in timings.values())


def test_a_slower_call_is_measured_as_slower():
    timings = timed({"slow": lambda: time.sleep(0.004), "fast": lambda: time.sleep(0.001)}, rounds=5)
    assert timings["slow"].ratio(timings["fast"]) > 1.5
    assert timings["slow"].excess(timings["fast"]) > 0.001


def test_ratios_are_of_rounds_and_not_of_medians():
    ours, theirs = Timing((1.0, 4.0, 2.0)), Timing((2.0, 8.0, 1.0))
    assert ours.ratio(theirs) == 0.5 and ours.excess(theirs) == -1.0
    assert ours.median == 2.0 and ours.quartiles == (1.5, 2.0, 3.0)


def test_the_table_says_where_seqport_is_slower(capsys):
    one, two = Timing((1e-3,) * 3), Timing((2e-3,) * 3)
    races = [
        Race("overhead", "language", 1, 1, {"seqport": two, "onnxruntime": one}),
        Race("frameworks", "language", 32, 16, {"seqport": one, "PyTorch packed": two}),
    ]
    show(zoo.table(races))
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "seqport is slower than onnxruntime: language 1 × 1 (2.00 times, +1000 µs)"
    assert lines[3].split()[-3:] == ["1.000–1.000", "2.00", "1000"]
    show(zoo.table(races[1:]))
    assert capsys.readouterr().out.splitlines()[-1] == "seqport is nowhere slower by more than 5%"


def test_every_group_is_measured(folder):
    races = zoo.measure(["forecast"], folder, rounds=2)
    assert [(race.group, race.rows) for race in races] == [
        *(("overhead", 1), ("frameworks", 1), ("overhead", 32), ("frameworks", 32), ("ragged", 256))
    ]
    assert {name for race in races for name in race.timings} == {
        *("seqport", "onnxruntime", "PyTorch packed", "Keras graph", "predict", "one padded batch")
    }
    plain = zoo.to_json(races, [])
    assert set(plain["races"][0]) == {"group", "model", "rows", "steps", "seconds", "ratios"}
    assert set(plain["races"][0]["seconds"]["seqport"]) == {"low", "median", "high"}
