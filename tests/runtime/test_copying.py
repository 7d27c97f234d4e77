"""Answers are copied out of batches by several threads, where that is worth it and allowed."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from seqport.runtime import Session, copying
from seqport.runtime.copying import copies


@pytest.fixture
def started(monkeypatch) -> list[threading.Thread]:
    """The threads that were started."""
    found: list[threading.Thread] = []

    class Seen(threading.Thread):
        def start(self) -> None:
            found.append(self)
            super().start()

    monkeypatch.setattr(copying.threading, "Thread", Seen)
    return found


def _views(count: int = 40, width: int = 250_000) -> list[np.ndarray]:
    random = np.random.default_rng(0)
    whole = random.normal(size=(count, width)).astype(np.float32)
    return [row[: random.integers(0, width)] for row in whole]


@pytest.mark.parametrize(("threads", "helpers"), [(1, 0), (2, 1), (3, 2), (64, 3)])
def test_every_view_is_copied_in_order(started, threads, helpers) -> None:
    views = _views()
    found = copies(views, threads)
    assert len(started) == helpers
    for array, view in zip(found, views, strict=True):
        np.testing.assert_array_equal(array, view)
        assert array.base is None
        assert array.flags.c_contiguous


def test_views_of_all_sizes(monkeypatch) -> None:
    monkeypatch.setattr(copying, "_WORTH", 1)
    monkeypatch.setattr(copying, "_LARGE", 1)
    views = [np.zeros(size, np.int8) for size in (1, 1, 1, 1, 90, 1, 1, 1, 1, 90)]
    assert [array.size for array in copies(views, 4)] == [array.size for array in views]
    views = [np.zeros(1000, np.int8)]
    assert copies(views, 4)[0].size == 1000
    assert copies([], 4) == []
    assert [array.size for array in copies([np.zeros(0), np.zeros((3, 0))], 4)] == [0, 0]


def test_views_in_another_order(started) -> None:
    whole = np.arange(6_000_000, dtype=np.float32).reshape(1000, 2000, 3).transpose(2, 1, 0)
    found = copies(list(whole), 2)
    assert len(started) == 1
    np.testing.assert_array_equal(np.array(found), whole)
    assert all(array.flags.c_contiguous for array in found)


@pytest.mark.parametrize(("size", "count"), [(200_000, 4), (10_000, 2000)])
def test_few_or_short_copies_start_no_thread(started, size, count) -> None:
    copies([np.zeros(size, np.float32)] * count, 8)
    assert not started


def test_where_no_thread_can_be_started_the_caller_copies(monkeypatch) -> None:
    def refuse(_thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(copying.threading.Thread, "start", refuse)
    for array, view in zip(copies(_views(), 4), _views(), strict=True):
        np.testing.assert_array_equal(array, view)


def test_a_failure_of_a_thread_is_the_callers(monkeypatch) -> None:
    monkeypatch.setattr(copying, "_WORTH", 1)
    monkeypatch.setattr(copying, "_LARGE", 1)

    class Fails(np.ndarray):
        def copy(self, *_order):
            raise MemoryError("no memory")

    views = [np.zeros(1000, np.float32), np.zeros(1000, np.float32).view(Fails)]
    with pytest.raises(MemoryError, match="no memory"):
        copies(views, 2)


@pytest.mark.parametrize(("threads", "some"), [(1, False), (2, True)])
@pytest.mark.parametrize("kernels", ["seqport", "onnxruntime"])
def test_predict_starts_threads_only_where_the_session_may(artifact, started, threads, some, kernels) -> None:
    session = Session(artifact(out_dim=2000), "cpu", threads=threads, kernels=kernels)
    random = np.random.default_rng(0)
    items = [random.normal(size=(random.integers(100, 200), 3)).astype(np.float32) for _ in range(64)]
    answers = session.predict(items)
    assert bool(started) is some
    for item, answer in zip(items[::9], answers[::9], strict=True):
        alone = session.run({"x": item[None], "lengths": [len(item)]})
        np.testing.assert_allclose(answer["output"], alone["output"][0], rtol=0, atol=1e-5)
        assert answer["output"].base is None
