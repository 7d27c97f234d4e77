"""Items without end: read ahead within bounds, answered in order, and nothing lost where one is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count, islice
from typing import Any

import numpy as np
import pytest

from seqport.runtime import InputError, InputSizeError, InputValueError, LengthsError, Session

RANDOM = np.random.default_rng(0)
WRONG = np.ones((0, 3), np.float32)


def _sequences(lengths) -> list[np.ndarray]:
    return [RANDOM.normal(size=(steps, 3)).astype(np.float32) for steps in lengths]


def _drawn(rows: int, seed: int = 0) -> list[np.ndarray]:
    return _sequences(np.random.default_rng(seed).integers(1, 12, rows))


def _assert_answers(session: Session, answers, items) -> None:
    assert len(answers) == len(items)
    for answer, item in zip(answers, items, strict=True):
        alone = session.run({"x": item[None], "lengths": np.array([len(item)])})
        np.testing.assert_allclose(answer["output"], alone["output"][0], rtol=0, atol=1e-6)


class Spy:
    """A session whose runs are seen: the lengths of each, and the bytes that go in and out."""

    def __init__(self, session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
        self.rows: list[int] = []
        self.bytes: list[int] = []
        run = session.run

        def seen(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
            outputs = run(inputs)
            arrays = [value for name, value in inputs.items() if name != "lengths"] + list(outputs.values())
            self.rows.append(len(inputs["lengths"]))
            self.bytes.append(sum(array.nbytes for array in arrays))
            return outputs

        monkeypatch.setattr(session, "run", seen)


@pytest.mark.parametrize("read_ahead", [1, 7, 100, 5000])
@pytest.mark.parametrize("form", [list, iter, tuple])
def test_parts_are_answered_in_order(artifact, read_ahead, form) -> None:
    session, items = Session(artifact(), "cpu"), _drawn(150)
    _assert_answers(session, list(session.predict_iter(form(items), read_ahead=read_ahead)), items)


def test_items_without_end(artifact) -> None:
    session, items = Session(artifact(), "cpu"), _drawn(40)
    read: list[int] = []
    endless = (read.append(index) or items[index % 40] for index in count())
    answers = session.predict_iter(endless, read_ahead=16)
    assert read == []
    first = next(answers)
    assert len(read) == 16
    _assert_answers(session, [first, *islice(answers, 39)], items)
    assert len(read) == 48


@pytest.mark.parametrize("form", [list, iter])
def test_no_batch_takes_more_memory_than_the_limit(artifact, form, monkeypatch) -> None:
    session, items = Session(artifact(), "cpu"), _drawn(200)
    spy = Spy(session, monkeypatch)
    # A row of 11 steps: 11 * (3 in + 5 out) + 4 + 4 of the states, of 4 bytes.
    limit = 3 * 4 * (11 * 8 + 8)
    answers = session.predict(form(items), memory_limit=limit)
    assert limit / 2 < max(spy.bytes) <= limit
    assert max(spy.rows) > 3, "short rows take less, so more of them fit"
    monkeypatch.undo()
    _assert_answers(session, answers, items)


@pytest.mark.parametrize("form", [list, iter])
def test_items_read_ahead_stay_within_four_times_the_limit(artifact, form, monkeypatch) -> None:
    session, items = Session(artifact(), "cpu"), _sequences([11] * 50)
    spy = Spy(session, monkeypatch)
    answers = session.predict_iter(form(items), memory_limit=10 * 4 * (11 * 8 + 8))
    next(answers)
    assert sum(spy.rows) == 40 and max(spy.rows) == 10
    assert len(list(answers)) == 49


def test_a_list_is_grouped_as_a_whole_whatever_the_limit(artifact, monkeypatch) -> None:
    """All of its items and answers are in memory anyway, so reading few at a time would save nothing."""
    session, items = Session(artifact(), "cpu"), _sequences([1, 11] * 100)
    limit, spy = 8 * 4 * (11 * 8 + 8), Spy(session, monkeypatch)
    session.predict(iter(items), memory_limit=limit)
    assert max(spy.rows) < 30
    spy.rows.clear()
    session.predict(items, memory_limit=limit)
    assert max(spy.rows) > 40 and max(spy.bytes) <= limit


def test_an_item_beyond_the_limit_is_named(artifact) -> None:
    session, items = Session(artifact(), "cpu"), _sequences([4, 11, 4])
    with pytest.raises(InputSizeError, match=r"^item 1: .* take 384 bytes, and memory_limit is 383: raise the limit"):
        session.predict(items, memory_limit=383)
    assert len(session.predict(items, memory_limit=384)) == 3
    first, error, last = session.predict(items, memory_limit=383, on_error="return")
    assert isinstance(error, InputSizeError)
    _assert_answers(session, [first, last], [items[0], items[2]])


def test_progress(artifact) -> None:
    session, items = Session(artifact(), "cpu"), _drawn(20)
    told: list[tuple[int, int | None]] = []
    session.predict(items, batch_size=6, progress=lambda *said: told.append(said))
    assert [total for _, total in told] == [20] * len(told)
    done = [done for done, _ in told]
    assert done == sorted(set(done)) and len(done) >= 4 and done[-1] == 20
    told.clear()
    list(session.predict_iter(iter(items), read_ahead=8, progress=lambda *said: told.append(said)))
    assert told[-1] == (20, None) and len(told) >= 3


def test_all_answers_before_a_wrong_item_come_first_and_reading_goes_on_behind_it(artifact) -> None:
    session, items = Session(artifact(), "cpu"), _drawn(9)
    source = iter([*items[:5], WRONG, *items[5:]])
    found: list[Any] = []
    with pytest.raises(LengthsError, match=r"^item 5: sequence 'x' has 0 steps"):
        for answer in session.predict_iter(source):
            found.append(answer)
    _assert_answers(session, found, items[:5])
    _assert_answers(session, session.predict(source), items[5:])


def test_predict_stops_at_a_wrong_item_before_it_runs_anything(artifact, monkeypatch) -> None:
    session = Session(artifact(), "cpu")
    spy = Spy(session, monkeypatch)
    with pytest.raises(LengthsError, match=r"^item 5: "):
        session.predict(iter([*_drawn(5), WRONG]))
    assert spy.rows == []


def test_an_error_of_the_items_own_comes_after_the_answers_before_it(artifact) -> None:
    session, items = Session(artifact(), "cpu"), _drawn(4)

    def source() -> Iterator[np.ndarray]:
        yield from items
        raise OSError("the disk is gone")

    found: list[Any] = []
    with pytest.raises(OSError, match="the disk is gone"):
        for answer in session.predict_iter(source(), read_ahead=3):
            found.append(answer)
    _assert_answers(session, found, items)


@pytest.mark.parametrize("form", [list, iter])
@pytest.mark.parametrize("read_ahead", [2, 100])
def test_errors_may_stand_in_the_place_of_answers(artifact, form, read_ahead) -> None:
    session, items = Session(artifact(), "cpu"), _drawn(6)
    given = [WRONG, *items[:3], [["no"]], *items[3:], 7]
    told: list[int] = []
    answers = list(
        session.predict_iter(
            form(given), on_error="return", read_ahead=read_ahead, progress=lambda done, _: told.append(done)
        )
    )
    wrong = [index for index, answer in enumerate(answers) if isinstance(answer, InputError)]
    assert wrong == [0, 4, 8]
    assert told == sorted(told) and told[-1] == 9
    assert [str(answers[index]).partition(":")[0] for index in wrong] == ["item 0", "item 4", "item 8"]
    _assert_answers(session, [answer for answer in answers if not isinstance(answer, InputError)], items)
    assert str(session.predict([WRONG], on_error="return")[0]).startswith("item 0: ")


def test_a_value_that_the_model_refuses_is_found_among_its_batch(artifact) -> None:
    session = Session(artifact("gru", vocab_size=6), "cpu")
    items = [[1, 2], [3], [4, 99], [5, 5]]
    with pytest.raises(InputValueError, match=r"^item 2: the model does not take these values"):
        session.predict(items)
    first, second, error, last = session.predict(items, on_error="return")
    assert isinstance(error, InputValueError)
    for answer, item in ((first, [1, 2]), (second, [3]), (last, [5, 5])):
        assert isinstance(answer, dict)
        alone = session.run({"ids": [item], "lengths": [len(item)]})
        np.testing.assert_allclose(answer["output"], alone["output"][0], atol=1e-6)
    answers = session.predict_iter(iter(items))
    assert [len(next(answers)["output"]) for _ in range(2)] == [2, 1]
    with pytest.raises(InputValueError, match=r"^item 2: "):
        next(answers)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"batch_size": 0}, "batch_size is 0, expected at least 1 row a batch"),
        ({"read_ahead": 0}, "read_ahead is 0, expected at least 1 item"),
        ({"memory_limit": 0}, "memory_limit is 0, expected at least 1 byte"),
        ({"on_error": "ignore"}, "on_error is 'ignore', expected 'raise' or 'return'"),
    ],
)
def test_wrong_options_are_refused_at_once(artifact, options, match) -> None:
    with pytest.raises(InputError, match=match):
        Session(artifact(), "cpu").predict_iter([], **options)
