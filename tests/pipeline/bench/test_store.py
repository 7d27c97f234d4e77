"""A benchmark that was ended goes on: what was measured is kept, and only for the same setup."""

from __future__ import annotations

import pytest

from seqport.pipeline.bench import machine
from seqport.pipeline.bench.cases import Case, Network
from seqport.pipeline.bench.contestants.entry import REFERENCE
from seqport.pipeline.bench.grid import run
from seqport.pipeline.bench.race import Outcome, Referee
from seqport.pipeline.bench.store import Store
from seqport.pipeline.bench.timing import Timing

ONE, TWO = (Case(Network("gru", 64), batch=batch, fill=0.6) for batch in (1, 8))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "results" / "grid.jsonl"


def test_what_is_kept_comes_back_the_same(path, outcome):
    made = outcome(ONE, {"OpenVINO": "wrong"}, seqport=(1.0, 2.0, 4.0), Keras=3.0)
    Store(path, "setup", "2026-01-02").add(made, ["seqport", "Keras", "OpenVINO"])
    again = Store(path, "setup", "2026-01-03")
    assert again.get([TWO, ONE]) == [made] and again.dates([ONE, TWO]) == ["2026-01-02"]


def test_a_later_outcome_takes_the_place(path, outcome):
    store = Store(path, "setup", "2026-01-02")
    store.add(outcome(ONE, seqport=1.0), ["seqport"])
    store.add(outcome(ONE, seqport=2.0), ["seqport"])
    assert store.get([ONE]) == Store(path, "setup", "").get([ONE]) == [outcome(ONE, seqport=2.0)]


def test_another_setup_is_not_seen(path, outcome):
    Store(path, "setup", "2026-01-02").add(outcome(ONE, seqport=1.0), ["seqport"])
    assert not Store(path, "another", "2026-01-02").has(ONE, ["seqport"])


def test_a_case_with_fewer_contestants_is_measured_again(path, outcome):
    store = Store(path, "setup", "2026-01-02")
    store.add(outcome(ONE, seqport=1.0), ["seqport"])
    assert store.has(ONE, ["seqport"]) and not store.has(ONE, ["seqport", "Keras"])


def test_a_line_that_was_cut_off_costs_its_own_case(path, outcome):
    store = Store(path, "setup", "2026-01-02")
    store.add(outcome(ONE, seqport=1.0), ["seqport"])
    store.add(outcome(TWO, seqport=1.0), ["seqport"])
    path.write_text(path.read_text()[:-20])
    again = Store(path, "setup", "2026-01-02")
    assert again.has(ONE, ["seqport"]) and not again.has(TWO, ["seqport"])
    again.add(outcome(TWO, seqport=1.0), ["seqport"])
    assert Store(path, "setup", "").has(TWO, ["seqport"])


def test_the_grid_measures_what_is_not_there(path, tmp_path, monkeypatch):
    raced, said = [], []

    def fake(_, case, entries):
        raced.append(case)
        return Outcome(case, 1, {entry.name: Timing((1.0,)) for entry in entries})

    monkeypatch.setattr(Referee, "race", fake)
    store = Store(path, "setup", "2026-01-02")
    run([ONE], store, tmp_path, peers=["Keras"])
    run([ONE, TWO], store, tmp_path, said.append, peers=["Keras"])
    assert raced == [ONE, TWO] and said == [
        "batch gru-64 B=1 T=100 fill=0.6: measured before",
        "batch gru-64 B=8 T=100 fill=0.6: 2 timed",
    ]
    assert set(store.get([TWO])[0].timings) == {"Keras", REFERENCE}
    run([ONE], store, tmp_path)  # now with everybody
    assert raced == [ONE, TWO, ONE]


def test_a_setup_is_the_machine_and_the_code_and_not_the_day(monkeypatch):
    here = machine.describe()
    assert here["processor"] and here["cores"] >= 1 and "torch" in here["packages"]
    assert machine.setup(here) == machine.setup({**here, "date": "1970-01-01", "load": 9.0})
    assert machine.setup(here) != machine.setup({**here, "cores": 77})
    whole = machine.setup(here)
    monkeypatch.setattr(machine, "_SOURCES", ("exporters/**/*.py",))
    assert machine.setup(here) != whole
