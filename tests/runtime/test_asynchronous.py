"""Calls from asyncio: the same answers, a loop that goes on meanwhile, and a clean end when cancelled."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import numpy as np
import pytest

from seqport.runtime import InputError, LengthsError, Session

RANDOM = np.random.default_rng(0)


def _sequences(rows: int, longest: int = 12) -> list[np.ndarray]:
    return [RANDOM.normal(size=(steps, 3)).astype(np.float32) for steps in RANDOM.integers(1, longest, rows)]


def _long_batch(session: Session, seconds: float) -> dict[str, np.ndarray]:
    """A batch that takes so long to run."""
    steps, took = 5000, 0.0
    while took < seconds:
        steps *= 2
        feed = {"x": np.ones((1, steps, 3), np.float32), "lengths": np.array([steps])}
        started = time.perf_counter()
        session.run(feed)
        took = time.perf_counter() - started
    return feed


async def _ticks_during(awaitable: Awaitable[Any]) -> tuple[int, Any]:
    """How often the loop took its turn until something was there."""
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.001)
            ticks += 1

    ticking = asyncio.create_task(tick())
    answer = await awaitable
    ticking.cancel()
    return ticks, answer


def test_run_leaves_the_loop_free(artifact) -> None:
    session = Session(artifact(), "cpu", threads=1)
    feed = _long_batch(session, 0.2)
    ticks, out = asyncio.run(_ticks_during(session.run_async(feed)))
    assert ticks >= 10
    np.testing.assert_array_equal(out["output"], session.run(feed)["output"])


def test_predict_and_generate_leave_the_loop_free(artifact) -> None:
    session = Session(artifact("gru", vocab_size=5, states=True), "cpu", threads=1)
    items = [RANDOM.integers(0, 5, steps) for steps in RANDOM.integers(1, 50, 20_000)]
    ticks, answers = asyncio.run(_ticks_during(session.predict_async(items)))
    assert ticks >= 10 and len(answers) == len(items)
    ticks, rows = asyncio.run(_ticks_during(session.generate_async([1, 2], max_steps=5000)))
    assert ticks >= 10 and [len(row) for row in rows] == [5000, 5000]


def test_answers_are_those_of_the_plain_calls(artifact) -> None:
    session = Session(artifact("gru", vocab_size=5, states=True), "cpu")
    items = [[1, 2, 3], [4]]

    async def all_at_once() -> Any:
        return await asyncio.gather(
            session.predict_async(items, batch_size=1),
            session.generate_async([1, 2], max_steps=9, temperature=1.0, top_k=3, seed=4),
            session.generate_async(1, max_steps=9, stop=2, until=lambda _, values: len(values) == 5),
        )

    predicted, drawn, greedy = asyncio.run(all_at_once())
    for answer, expected in zip(predicted, session.predict(items, batch_size=1), strict=True):
        np.testing.assert_allclose(answer["output"], expected["output"], atol=1e-6)
    for row, expected in zip(
        drawn, session.generate([1, 2], max_steps=9, temperature=1.0, top_k=3, seed=4), strict=True
    ):
        np.testing.assert_array_equal(row, expected)
    expected = session.generate(1, max_steps=9, stop=2, until=lambda _, values: len(values) == 5)
    np.testing.assert_array_equal(greedy[0], expected[0])


def test_answers_without_end_come_part_by_part(artifact, monkeypatch) -> None:
    session, items = Session(artifact(), "cpu"), _sequences(30)
    runs: list[int] = []
    read: list[int] = []
    run = session.run
    monkeypatch.setattr(session, "run", lambda inputs: runs.append(len(inputs["lengths"])) or run(inputs))

    def endless() -> Iterator[np.ndarray]:
        while True:
            read.append(1)
            yield items[(len(read) - 1) % 30]

    async def main() -> list[Any]:
        found: list[Any] = []
        answers = session.predict_iter_async(endless(), read_ahead=10)
        async for answer in answers:
            found.append(answer)
            assert len(read) <= 10 * (1 + (len(found) - 1) // 10)
            if len(found) == 25:
                break
        await answers.aclose()  # type: ignore[attr-defined] - it is a generator
        return found

    found = asyncio.run(main())
    assert (len(read), sum(runs)) == (30, 30)
    for answer, item in zip(found, items, strict=False):
        alone = run({"x": item[None], "lengths": np.array([len(item)])})
        np.testing.assert_allclose(answer["output"], alone["output"][0], rtol=0, atol=1e-6)


def test_answers_before_a_wrong_item_come_first_here_too(artifact) -> None:
    session, items = Session(artifact(), "cpu"), _sequences(4)

    async def main() -> list[Any]:
        found: list[Any] = []
        with pytest.raises(LengthsError, match=r"^item 4: "):
            async for answer in session.predict_iter_async([*items, np.ones((0, 3), np.float32), *items]):
                found.append(answer)
        return found

    assert [len(answer["output"]) for answer in asyncio.run(main())] == [len(item) for item in items]


def test_errors_arrive_and_progress_is_told_in_the_loop(artifact) -> None:
    session = Session(artifact(), "cpu")
    told: list[tuple[int, int | None, bool]] = []

    async def main() -> None:
        here = threading.get_ident()
        tell = lambda done, total: told.append((done, total, threading.get_ident() == here))  # noqa: E731
        await session.predict_async(_sequences(10), batch_size=4, progress=tell)
        with pytest.raises(LengthsError, match=r"^item 1: "):
            await session.predict_async([*_sequences(1), np.ones((0, 3), np.float32)])
        with pytest.raises(InputError, match="max_steps is 0"):
            await of_tokens.generate_async([1], max_steps=0)

    of_tokens = Session(artifact("gru", vocab_size=5, states=True), "cpu")
    asyncio.run(main())
    assert told[-1] == (10, 10, True) and all(in_loop for *_, in_loop in told)


async def _first(answers: AsyncIterator[Any]) -> Any:
    async for answer in answers:
        return answer
    return None


Call = Callable[[Session], Awaitable[Any]]


@pytest.mark.parametrize(
    ("form", "call"),
    [
        ({}, lambda session: session.predict_async(_sequences(3000), batch_size=1)),
        ({}, lambda session: _first(session.predict_iter_async(_sequences(3000), batch_size=1))),
        ({"vocab_size": 5, "states": True}, lambda session: session.generate_async([1], max_steps=100_000)),
    ],
)
def test_a_cancelled_call_starts_no_other_run(artifact, form, call: Call, monkeypatch) -> None:
    session = Session(artifact("gru", **form), "cpu", threads=1)
    runs: list[int] = []
    threads: set[threading.Thread] = set()
    run = session.run

    def seen(inputs: Any) -> Any:
        threads.add(threading.current_thread())
        runs.append(1)
        return run(inputs)

    monkeypatch.setattr(session, "run", seen)

    async def main() -> tuple[int, float]:
        task = asyncio.ensure_future(call(session))
        while len(runs) < 5:
            await asyncio.sleep(0.001)
        task.cancel()
        started = time.perf_counter()
        with pytest.raises(asyncio.CancelledError):
            await task
        return len(runs), time.perf_counter() - started

    so_far, waited = asyncio.run(main())  # which waits for the thread
    assert len(runs) <= so_far + 1
    assert waited < 0.5
    assert threading.main_thread() not in threads
    monkeypatch.undo()
    asyncio.run(_one_more(session))


def test_a_thread_between_two_runs_starts_none_when_cancelled(artifact, monkeypatch) -> None:
    session = Session(artifact("gru", vocab_size=5, states=True), "cpu")
    runs: list[int] = []
    run = session.run
    monkeypatch.setattr(session, "run", lambda inputs: runs.append(1) or run(inputs))

    async def main() -> None:
        between, go_on = asyncio.Event(), threading.Event()
        loop = asyncio.get_running_loop()

        def until(_: int, values: np.ndarray) -> bool:
            if len(values) == 3:
                loop.call_soon_threadsafe(between.set)
                go_on.wait()
            return False

        task = asyncio.ensure_future(session.generate_async([1], max_steps=10, until=until))
        await between.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        go_on.set()

    asyncio.run(main())
    assert len(runs) == 3


def test_no_progress_is_told_of_a_run_that_was_cancelled(artifact, monkeypatch) -> None:
    session = Session(artifact(), "cpu")
    told: list[int] = []
    runs: list[int] = []
    run = session.run

    async def main() -> None:
        inside, go_on = asyncio.Event(), threading.Event()
        loop = asyncio.get_running_loop()

        def third_waits(inputs: Any) -> Any:
            runs.append(1)
            if len(runs) == 3:
                loop.call_soon_threadsafe(inside.set)
                go_on.wait()
            return run(inputs)

        monkeypatch.setattr(session, "run", third_waits)
        call = session.predict_async(_sequences(8), batch_size=1, progress=lambda done, _: told.append(done))
        task = asyncio.ensure_future(call)
        await inside.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        go_on.set()

    asyncio.run(main())
    assert (len(runs), told) == (3, [1, 2])


async def _one_more(session: Session) -> None:
    """A session whose call was cancelled is as good as before."""
    sizes = {
        info.name: [1 if isinstance(axis, str) else axis for axis in info.axes] for info in session.signature.inputs
    }
    feed = {info.name: np.ones(sizes[info.name], info.dtype) for info in session.signature.inputs}
    np.testing.assert_array_equal((await session.run_async(feed))["output"], session.run(feed)["output"])


def test_a_call_that_waits_for_a_thread_is_cancelled_before_it_begins(artifact, monkeypatch) -> None:
    session = Session(artifact(), "cpu")
    runs: list[int] = []
    run = session.run
    monkeypatch.setattr(session, "run", lambda inputs: runs.append(1) or run(inputs))

    async def main() -> None:
        from concurrent.futures import ThreadPoolExecutor

        gate = threading.Event()
        pool = ThreadPoolExecutor(1)
        asyncio.get_running_loop().set_default_executor(pool)
        pool.submit(gate.wait)
        task = asyncio.ensure_future(session.predict_async(_sequences(3)))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        gate.set()

    asyncio.run(main())
    assert runs == []
