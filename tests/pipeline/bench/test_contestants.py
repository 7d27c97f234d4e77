"""The real contestants: the same network everywhere, and whoever ignores the lengths is found out."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec

import numpy as np
import pytest

from seqport.pipeline.bench.cases import CELLS, INPUT_DIM, Case, Inputs, Network, draw
from seqport.pipeline.bench.contestants import ENTRIES, entries_for
from seqport.pipeline.bench.contestants.entry import LOOP, NODE, OWN, PACKED, PADDED, entry_of
from seqport.pipeline.bench.contestants.sgemm import OfNumPy, OfPyTorch, flops
from seqport.pipeline.bench.race import Referee
from seqport.pipeline.bench.workers import Workers
from seqport.pipeline.errors import PipelineError

PEERS = (OWN, "seqport stream", NODE, LOOP, PACKED, PADDED, "Keras", "OpenVINO", "sgemm (PyTorch)", "sgemm (NumPy)")
LISTS = ("padded to the longest", "fixed buckets", "longest (ONNX Runtime)", "buckets (ONNX Runtime)")
NOT_INSTALLED = {} if find_spec("openvino") else {"OpenVINO": "openvino is not installed"}


@pytest.fixture(scope="module")
def referee(tmp_path_factory) -> Iterator[Referee]:
    with Workers(tmp_path_factory.mktemp("bench")) as workers:
        yield Referee(workers, seconds=0.0)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("bidirectional", [False, True])
def test_padded_batches(referee, cell, bidirectional):
    case = Case(Network(cell, 8, bidirectional), batch=5, steps=9, fill=0.5)
    outcome = referee.race(case, entries_for(case, names=PEERS))
    wrong = {PADDED, "OpenVINO"} if bidirectional else set()
    assert set(outcome.failed) == wrong | set(NOT_INSTALLED)
    assert all(outcome.failed[n].startswith("wrong answers at valid steps") for n in wrong - set(NOT_INSTALLED))
    assert set(outcome.timings) == set(PEERS) - {"seqport stream"} - set(outcome.failed)
    assert all(0 < timing.median < 60 for timing in outcome.timings.values())


@pytest.mark.parametrize("cell", CELLS)
def test_streams(referee, cell):
    case = Case(Network(cell, 8, with_state=True), "stream", steps=1)
    outcome = referee.race(case, entries_for(case, names=PEERS))
    assert outcome.failed == NOT_INSTALLED
    assert {OWN, "seqport stream", NODE, LOOP, PACKED, "Keras"} <= set(outcome.timings)


def test_lists(referee):
    case = Case(Network("gru", 8), "list", batch=150, steps=40, fill=0.3)
    outcome = referee.race(case, entries_for(case))
    assert not outcome.failed and list(outcome.timings) == [OWN, PACKED, *LISTS]


def test_who_takes_part():
    assert len({entry.name for entry in ENTRIES}) == len(ENTRIES) == len({entry.maker for entry in ENTRIES})
    small = Case(Network("lstm", 64), batch=8)
    whole = "PyTorch compiled whole"
    assert whole in [entry.name for entry in entries_for(small)]
    for larger in (Case(Network("lstm", 256), batch=8), Case(Network("lstm", 64), batch=8, fill=0.6)):
        assert whole not in [entry.name for entry in entries_for(larger)]
    assert [entry.name for entry in entries_for(small, names=["Keras"])] == [PACKED, "Keras"]
    assert all(entry.device == "cuda" or entry.name == PACKED for entry in entries_for(small, "cuda"))
    with pytest.raises(PipelineError, match="nobody called 'Caffe' takes part, expected one of seqport, "):
        entry_of("Caffe")


@pytest.mark.parametrize("kind", [OfPyTorch, OfNumPy])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_the_limit_multiplies_exactly_the_valid_steps(tmp_path, kind, bidirectional, monkeypatch):
    case = Case(Network("gru", 8, bidirectional), batch=5, steps=9, fill=0.5)
    done = []

    def counted(_, a, b, out):
        assert np.shape(out) == (a.shape[0], b.shape[1])
        done.append(2 * a.shape[0] * a.shape[1] * b.shape[1])

    monkeypatch.setattr(kind, "multiply", counted)
    inputs = draw(case)
    kind(case.network, tmp_path).prepare(case, inputs).call()
    directions = 2 if bidirectional else 1
    assert inputs.valid_steps % 5, "a last product of fewer rows belongs to the test"
    assert sum(done) == flops(case, inputs.valid_steps)
    assert sum(done) == 2 * inputs.valid_steps * 24 * (INPUT_DIM + 8) * directions


def test_buckets_have_fixed_ends_and_no_row_is_lost():
    from seqport.pipeline.bench.contestants.lists import Buckets, Longest

    items = [np.full((steps, INPUT_DIM), steps, np.float32) for steps in (3, 70, 8, 9, 500, 600, 70, 16)]
    shapes: list[tuple[int, int]] = []

    def run(feed):
        shapes.append(feed["x"].shape[:2])
        return {"y": feed["x"]}

    for kind, expected in ((Buckets, {(2, 8), (2, 128), (2, 16), (1, 512), (1, 600)}), (Longest, {(8, 600)})):
        shapes.clear()
        one = object.__new__(kind)
        one.run = run
        answers = one.predict(items)
        assert set(shapes) == expected
        assert all((answer == item).all() for answer, item in zip(answers, items, strict=True))


def test_inputs_know_their_rows():
    inputs = Inputs(np.arange(12, dtype=np.float32).reshape(2, 3, 2), np.array([3, 1]))
    assert inputs.valid.tolist() == [[True, True, True], [True, False, False]]
    assert [item.tolist() for item in inputs.items] == [[[0, 1], [2, 3], [4, 5]], [[6, 7]]]
