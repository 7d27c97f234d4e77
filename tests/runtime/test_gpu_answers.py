"""Large answers in page-locked memory, which goes from one to the next; on the CPU, with a stand-in for the driver."""

from __future__ import annotations

import gc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from seqport.runtime import InputValueError, Session, cuda, gpu_answers, pinned

from .machines import Pages


@pytest.fixture
def pages(monkeypatch) -> Pages:
    driver = Pages()
    monkeypatch.setattr(cuda, "_load", lambda _name: driver)
    return driver


def _on_gpu(session: Session) -> Session:
    session._gpu = gpu_answers.GpuAnswers(session.description, 1)  # it still runs on the CPU
    return session


def _inputs(rows: int = 40, seed: int = 0) -> dict[str, np.ndarray]:
    """For an output of 40 · 2000 · 5 floats, 1.6 MB."""
    x = np.random.default_rng(seed).normal(size=(rows, 2000, 3)).astype(np.float32)
    return {"x": x, "lengths": np.full(rows, 2000)}


def test_a_large_answer_lies_there_and_a_small_one_does_not(artifact, pages) -> None:
    session = Session(artifact(), "cpu")
    expected = session.run(_inputs())
    found = _on_gpu(session).run(_inputs())
    assert list(found) == list(expected)
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value)
    assert {found["output"].ctypes.data} == pages.held
    del found
    gc.collect()
    assert len(pages.held) == 1, "it waits for the next answer"
    small = session.run({"x": _inputs()["x"][:2], "lengths": _inputs()["lengths"][:2]})
    assert small["output"].ctypes.data not in pages.held


def test_memory_goes_to_the_next_answer_when_the_last_view_is_gone(artifact, pages) -> None:
    session = _on_gpu(Session(artifact(), "cpu"))
    first = session.run(_inputs())["output"]
    kept, place = first[3:5], first.ctypes.data
    copy = kept.copy()
    second = session.run(_inputs(seed=1))["output"]
    assert second.ctypes.data != place
    np.testing.assert_array_equal(kept, copy)
    del first, kept
    gc.collect()
    third = session.run(_inputs(rows=44))["output"]
    assert third.ctypes.data == place, "another size, the same block"
    assert len(pages.held) == 2


def test_many_threads(artifact, pages) -> None:
    session = Session(artifact(), "cpu", threads=1)
    feeds = [_inputs(seed=seed) for seed in range(6)]
    expected = [session.run(feed)["output"] for feed in feeds]
    _on_gpu(session)
    with ThreadPoolExecutor(6) as pool:
        for _ in range(3):
            for found, value in zip(pool.map(session.run, feeds), expected, strict=True):
                np.testing.assert_array_equal(found["output"], value)
    assert len(pages.held) <= 18


def test_shapes_are_remembered_only_where_the_answer_is_small(artifact, pages, monkeypatch) -> None:
    session = Session(artifact(), "cpu")
    answers = session._gpu = gpu_answers.GpuAnswers(session.description, 1)
    answers._pool = pinned.Pool(1, most=1 << 21)
    large = [session.run(_inputs())["output"] for _ in range(3)]
    places = [array.ctypes.data for array in large]
    assert {*places} & pages.held == {places[0]}, "no memory is left for the others"
    del large
    gc.collect()
    assert session.run(_inputs())["output"].ctypes.data == places[0], "and then there is"
    monkeypatch.setattr(gpu_answers, "_SHAPES", 3)
    for rows in (1, 2, 3, 4, 5, 1):
        session.run({name: array[:rows] for name, array in _inputs().items()})
    assert len(answers._small) == 3


@pytest.mark.usefixtures("pages")
def test_a_bound_beyond_which_ordinary_memory_serves() -> None:
    pool = pinned.Pool(1, most=5000)
    dtype = np.dtype(np.float32)
    first = pool.empty((1024,), dtype)
    assert first is not None
    assert first.shape == (1024,)
    assert pool.empty((1024,), dtype) is None
    del first
    assert pool.empty((100,), dtype) is not None, "what waited was given back to make room"
    assert pool.empty((2, 0), dtype) is not None


def test_a_pool_that_is_gone_leaves_nothing(pages) -> None:
    pool = pinned.Pool(1)
    arrays = [pool.empty((1000,), np.dtype(np.int64)) for _ in range(3)]
    del arrays[0]
    assert len(pages.held) == 3
    del pool
    gc.collect()
    assert len(pages.held) == 2, "what waited is free, what is used is not"
    arrays.clear()
    gc.collect()
    assert not pages.held
    assert (pages.contexts, pages.retained) == (0, 0)


@pytest.mark.parametrize("fails", ["cuInit", "cuMemHostAlloc"])
def test_where_no_memory_can_be_locked(artifact, pages, fails) -> None:
    pages.fails = fails
    session = Session(artifact(), "cpu")
    expected = session.run(_inputs())["output"]
    np.testing.assert_array_equal(_on_gpu(session).run(_inputs())["output"], expected)
    assert not pages.held


@pytest.mark.usefixtures("pages")
def test_answers_of_another_size_than_the_signature_says(artifact) -> None:
    """A file edited after the export, say: it runs, and is not tried again."""
    session = Session(artifact(), "cpu")
    answers = session._gpu = gpu_answers.GpuAnswers(session.description, 1)
    name, dtype, _ = answers._sized[0]
    answers._sized[0] = (name, dtype, ("batch", "seq", 7))
    assert session.run(_inputs())["output"].shape == (40, 2000, 5)
    assert not answers._sized


def test_a_wrong_value_is_named_and_changes_nothing(artifact, pages) -> None:
    session = _on_gpu(Session(artifact(vocab_size=6), "cpu"))
    good = {"ids": np.zeros((40, 2000), np.int64), "lengths": np.full(40, 2000)}
    with pytest.raises(InputValueError, match="idx=6"):
        session.run({**good, "ids": np.full((40, 2000), 6)})
    assert {session.run(good)["output"].ctypes.data} <= pages.held
