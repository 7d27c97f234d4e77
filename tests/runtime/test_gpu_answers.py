"""Large answers in page-locked memory, which goes from one to the next; on the CPU, with a stand-in for the driver."""

from __future__ import annotations

import gc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from seqport.runtime import InputValueError, Session, cuda, gpu_answers, pinned

from .machines import Pages

pytestmark = pytest.mark.usefixtures("forget")


@pytest.fixture
def pages(monkeypatch) -> Pages:
    driver = Pages()
    monkeypatch.setattr(cuda, "_load", lambda _name: driver)
    return driver


def _on_gpu(session: Session) -> Session:
    session._gpu = gpu_answers.GpuAnswers(session.description, 1, pinned.Pool(1))  # it still runs on the CPU
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
    third = session.run(_inputs(rows=41))["output"]
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


@pytest.mark.usefixtures("pages")
def test_a_bound_beyond_which_ordinary_memory_serves() -> None:
    pool = pinned.Pool(1, most=10_000)
    dtype = np.dtype(np.float32)
    assert pool.empty((4000,), dtype) is None, "more than all"
    first = pool.empty((2000,), dtype)
    assert first is not None
    assert first.shape == (2000,)
    assert pool.empty((2000,), dtype) is None
    del first
    assert pool.empty((100,), dtype) is not None, "what waited was given back to make room"
    assert pool.empty((2, 0), dtype) is not None
    assert pool.held <= 10_000


def test_one_larger_than_all_leaves_the_others_what_they_have(pages) -> None:
    pool = pinned.Pool(1, most=10_000)
    place = np.dtype(np.int8)
    small = pool.empty((5000,), place)
    del small
    before = set(pages.held)
    assert pool.empty((20_000,), place) is None
    assert pages.held == before


@pytest.mark.parametrize("size", [1, 4096, 5000, 1 << 20, (1 << 20) + 1, 133 << 20])
def test_little_is_locked_in_vain(size) -> None:
    assert size <= pinned._rounded(size) <= max(4096 * -(-size // 4096), size * 9 / 8)


def test_the_collector_may_give_back_in_the_midst_of_taking(pages, monkeypatch) -> None:
    pool = pinned.Pool(1)
    other = [pool.empty((3000,), np.dtype(np.int8))]
    real = pinned._allocate

    def allocate(size: int, device: int) -> int | None:
        if other:
            other.clear()
            assert pool.empty((3000,), np.dtype(np.int8)) is not None, "from the same thread"
        return real(size, device)

    monkeypatch.setattr(pinned, "_allocate", allocate)
    assert pool.empty((9000,), np.dtype(np.int8)) is not None
    assert len(pages.held) == 2


def test_sessions_share_the_memory_of_a_device(artifact) -> None:
    description = Session(artifact(), "cpu").description
    first, second, other = (gpu_answers.GpuAnswers(description, device).memory for device in (7, 7, 6))
    assert first is second
    assert first is not other


@pytest.mark.parametrize(("memory", "locks"), [("keep", True), ("share", True), ("release", False)])
def test_which_sessions_lock_memory(artifact, gpu, memory, locks) -> None:
    gpu()
    assert (Session(artifact(), "cuda", memory=memory)._gpu is not None) is locks
    assert Session(artifact(), "cpu")._gpu is None


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
    answers = session._gpu = gpu_answers.GpuAnswers(session.description, 1, pinned.Pool(1))
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
