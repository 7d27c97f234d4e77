"""One session, many threads, every kind of call at once: the same answers as one after another."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import pytest

from seqport.runtime import InputError, Session

THREADS = 8


@pytest.fixture(autouse=True)
def _threads_that_take_turns_often() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def _calls(session: Session, encoder: Session) -> list[Callable[[], Any]]:
    """Different ones of every kind, wrong ones too: what one is given must not reach another."""
    random = np.random.default_rng(0)

    def ids(rows: int) -> list[np.ndarray]:
        return [random.integers(0, 5, steps) for steps in random.integers(1, 12, rows)]

    def padded() -> dict[str, np.ndarray]:
        states = {s.input: random.normal(size=(1, 6, 4)).astype("f") for s in session.description.states}
        return {"ids": random.integers(0, 5, (6, 7)), "lengths": random.integers(1, 8, 6), **states}

    def in_parts(items: list[Any]) -> list[Any]:
        return list(session.predict_iter(iter(items), read_ahead=9, batch_size=4))

    def refused(items: list[Any]) -> str:
        with pytest.raises(InputError) as caught:
            session.predict(items)
        return str(caught.value).partition(":")[0]

    calls: list[Callable[[], Any]] = []
    for n in range(10):
        calls += [
            partial(session.run, padded()),
            partial(session.predict, ids(90)),
            partial(in_parts, ids(40)),
            partial(session.generate, ids(1)[0], max_steps=20, stop=3),
            partial(session.generate, ids(1)[0], max_steps=20, temperature=1.5, seed=n, batch_size=3),
            partial(session.generate, 1, encoder=encoder, inputs=ids(5), max_steps=10),
            partial(refused, [*ids(n + 1), "no"]),
        ]
    return calls


def _assert_same(found: Any, expected: Any) -> None:
    assert type(found) is type(expected)
    if isinstance(expected, dict):
        assert list(found) == list(expected)
        found, expected = list(found.values()), list(expected.values())
    if isinstance(expected, list):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            _assert_same(one, other)
    elif isinstance(expected, str):
        assert found == expected
    else:
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_many_threads_answer_as_one(artifact, cell) -> None:
    path, other = artifact(cell, vocab_size=5, states=True), artifact(cell, vocab_size=5, head=False, seed=1)
    alone = [call() for call in _calls(Session(path, "cpu"), Session(other, "cpu"))]
    calls = _calls(Session(path, "cpu"), Session(other, "cpu"))  # which nobody has called yet
    with ThreadPoolExecutor(THREADS) as pool:
        together = list(pool.map(lambda call: call(), calls * 2))
    for answer, expected in zip(together, alone * 2, strict=True):
        _assert_same(answer, expected)
