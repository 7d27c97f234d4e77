"""Streams of small artifacts: chunks give what one run gives, whatever their sizes and whoever shares the run."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from seqport.runtime import (
    InputDtypeError,
    InputError,
    InputNameError,
    InputRankError,
    InputSizeError,
    InputValueError,
    NoMetadataError,
    Session,
    Stream,
    StreamIdError,
)
from seqport.runtime.rewriting import streaming

CELLS = ["rnn", "gru", "lstm"]
STEPS, INPUT_DIM, VOCABULARY = 23, 3, 7


def sequence(steps: int = STEPS, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((steps, INPUT_DIM)).astype(np.float32)


def ids(steps: int = STEPS, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, VOCABULARY, steps)


def in_one_run(session: Session, row: np.ndarray, **states: np.ndarray) -> dict[str, np.ndarray]:
    """Every output of a single row, without the batch axis."""
    data = session.description.inputs[0].name
    given = {info.name: np.zeros((1, 4), np.float32) for info in session.description.inputs[2:]} | states
    return session.predict([{data: row, **given}])[0]


def assert_near(found: np.ndarray, expected: np.ndarray) -> None:
    assert found.shape == expected.shape and found.dtype == expected.dtype
    np.testing.assert_array_less(np.abs(found - expected), 1e-6 * np.maximum(1, np.abs(expected)))


def cut(row: np.ndarray, sizes: Sequence[int]) -> list[np.ndarray]:
    assert sum(sizes) == len(row)
    return np.split(row, np.cumsum(sizes)[:-1])


@pytest.fixture
def artifact(artifact):
    """Artifacts with weights as those of a trained model, which forget a rounding."""
    return functools.partial(artifact, scale=0.5)


class Counted:
    """ONNX Runtime's session, which counts its runs."""

    def __init__(self, session: Any) -> None:
        self.session, self.batches = session, []

    def run(self, names: Any, feed: dict[str, np.ndarray]) -> Any:
        self.batches.append(len(feed["lengths"]))
        return self.session.run(names, feed)


@pytest.mark.parametrize("states", [False, True])
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("sizes", [[1] * STEPS, [5, 1, 17], [0, 3, 0, 0, 20, 0], [STEPS]])
def test_chunks_of_any_size_give_what_one_run_gives(artifact, cell, states, sizes) -> None:
    path, row = artifact(cell, states=states), sequence()
    plain, stream = Session(path, "cpu"), Session(path, "cpu").stream()
    outputs = []
    for chunk in cut(row, sizes):
        outputs.append(stream.push(chunk))
        if stream.steps:
            so_far = in_one_run(plain, row[: stream.steps])
            assert_near(np.concatenate([out["output"] for out in outputs]), so_far["output"])
            assert_near(outputs[-1]["h_T"], so_far["h_T"])
    assert stream.steps == STEPS
    assert np.abs(so_far["output"][5] - in_one_run(plain, row[5:6])["output"][0]).max() > 1e-3, "the state must matter"


@pytest.mark.parametrize("cell", CELLS)
def test_many_streams_share_one_run_and_do_not_touch_each_other(artifact, cell) -> None:
    session = Session(artifact(cell, vocab_size=VOCABULARY), "cpu")
    plain = Session(session.path, "cpu")
    streams = session.streams()
    counted = Counted(streams._model.session)
    streams._model.session = counted  # type: ignore[assignment]
    rows = {name: ids(seed=seed) for seed, name in enumerate(["a", 7, ("b", 1)])}
    sizes = {"a": [4, 0, 9, 10], 7: [1, 22, 0, 0], ("b", 1): [0, 0, 3, 20]}
    chunks = {name: cut(row, sizes[name]) for name, row in rows.items()}
    outputs: dict[Any, list[dict[str, np.ndarray]]] = {name: [] for name in rows}
    for turn in range(4):
        answers = streams.push({name: parts[turn] for name, parts in chunks.items()})
        assert list(answers) == list(rows)
        for name, answer in answers.items():
            outputs[name].append(answer)
    assert counted.batches == [2, 1, 2, 2], "chunks with steps share one run, others stay out of it"
    for name, row in rows.items():
        whole = in_one_run(plain, row)
        assert_near(np.concatenate([out["output"] for out in outputs[name]]), whole["output"])
        assert_near(outputs[name][-1]["h_T"], whole["h_T"])
        assert streams.steps(name) == STEPS
    assert streams.ids == tuple(rows) and len(streams) == 3


def test_an_empty_chunk_changes_nothing(artifact) -> None:
    stream = Session(artifact("lstm"), "cpu").stream()
    fresh = stream.push(sequence()[:0])
    assert {name: value.shape for name, value in fresh.items()} == {"output": (0, 5)}, "there is no answer yet"
    answer = stream.push(sequence())
    before = stream.save()
    for nothing in (sequence()[:0], {"x": sequence()[:0]}, []):
        empty = stream.push(nothing)
        assert (empty["output"].shape, empty["output"].dtype) == ((0, 5), np.float32)
        np.testing.assert_array_equal(empty["h_T"], answer["h_T"])
        empty["h_T"][:] = np.nan  # the caller's own
    assert stream.save() == before


def test_what_the_caller_does_to_an_answer_does_not_reach_the_stream(artifact) -> None:
    path, row = artifact("gru", states=True), sequence()
    stream = Session(path, "cpu").stream()
    for value in stream.push(row[:10]).values():
        value[:] = np.nan
    chunk = row[10:].copy()
    answer = stream.push(chunk)
    expected = in_one_run(Session(path, "cpu"), row)["h_T"]
    assert_near(answer["h_T"], expected)
    chunk[:] = answer["h_T"][:] = np.nan
    assert_near(stream.push(chunk[:0])["h_T"], expected)


def test_an_idle_stream_holds_no_more_than_its_own_state(artifact) -> None:
    """A view of its row would keep the whole batch in memory."""
    streams = Session(artifact("lstm"), "cpu").streams()
    answers = streams.push({name: sequence()[: 1 + name] for name in range(20)})
    streams.push({0: sequence()})  # the others stay behind
    assert streams._together is None
    for name, state in streams._states.items():
        held = [*state.carried.values(), *state.answers.values(), *answers[name].values()]
        assert all(array.base is None for array in held)


def test_streams_that_go_on_together_are_the_same_apart(artifact) -> None:
    """Pushes of the same ids go on in the arrays of the last run; anything else takes them apart first."""
    session = Session(artifact("lstm", vocab_size=VOCABULARY), "cpu")
    streams, alone = session.streams(), {name: session.stream() for name in "abc"}
    rows = {name: ids(80, seed) for seed, name in enumerate("abc")}

    def push(*names: str, steps: int = 3) -> None:
        sizes = {name: steps + place for place, name in enumerate(names)}
        chunks = {name: rows[name][alone[name].steps :][:size] for name, size in sizes.items()}
        found = streams.push(chunks)
        assert list(found) == list(names)
        for name, chunk in chunks.items():
            for output, value in alone[name].push(chunk).items():
                assert_near(found[name][output], value)

    push("a", "b")
    push("a", "b")
    push("b", "a")
    push("b", "a", "c")
    push("b", "a", "c", steps=1)
    with pytest.raises(InputValueError):
        streams.push({"b": ids(2), "a": ids(2), "c": np.array([VOCABULARY])})
    push("b", "a", "c")
    push("c")
    push("b", "a", "c")
    assert [streams.steps(name) for name in "abc"] == [alone[name].steps for name in "abc"]
    push("b", "a", "c")
    restored = session.stream()
    restored.restore(streams.save("a"))
    assert_near(restored.push(rows["a"][:5])["output"], copy_of(session, alone["a"]).push(rows["a"][:5])["output"])
    push("b", "a", "c")
    streams.reset("a")
    alone["a"].reset()
    push("b", "a", "c")
    streams.restore("b", alone["c"].save())
    alone["b"].restore(alone["c"].save())
    push("b", "a", "c")
    streams.close("c")
    alone["c"].reset()
    push("b", "a", "c")
    assert streams.ids == ("a", "b", "c")


def copy_of(session: Session, stream: Stream) -> Stream:
    copy = session.stream()
    copy.restore(stream.save())
    return copy


def test_a_chunk_that_does_not_fit_leaves_all_states(artifact) -> None:
    streams = Session(artifact("gru"), "cpu").streams()
    streams.push({"a": sequence()[:3], "b": sequence()[:4]})
    before = {name: streams.save(name) for name in streams.ids}
    with pytest.raises(InputSizeError, match=r"stream 'b': input 'x' has the shape \[2, 4\]"):
        streams.push({"a": sequence()[3:5], "b": np.zeros((2, 4), np.float32), "c": sequence()})
    assert {name: streams.save(name) for name in streams.ids} == before


def test_a_value_that_the_model_refuses_leaves_all_states(artifact) -> None:
    streams = Session(artifact("gru", vocab_size=VOCABULARY), "cpu").streams()
    streams.push({"a": ids()[:3]})
    before = streams.save("a")
    with pytest.raises(InputValueError, match="the model does not take these values"):
        streams.push({"a": ids()[3:5], "b": np.array([VOCABULARY])})
    assert streams.ids == ("a",) and streams.save("a") == before


def test_reset_and_close_begin_anew(artifact) -> None:
    session = Session(artifact("lstm"), "cpu")
    row, stream, streams = sequence(), session.stream(), session.streams()
    first = stream.push(row)
    streams.push({"a": row, "b": row})
    stream.reset()
    streams.reset("a")
    streams.close("b")
    assert (stream.steps, streams.steps("a"), streams.ids) == (0, 0, ("a",))
    again = streams.push({"a": row, "b": row})
    for found in (stream.push(row), again["a"], again["b"]):
        assert_near(found["output"], first["output"])
    for call in (streams.close, streams.reset, streams.save, streams.steps):
        with pytest.raises(StreamIdError, match="no stream has the id 'z'; open are 'a', 'b': push a chunk"):
            call("z")
    assert streams.push({}) == {}


def test_a_given_state_replaces_the_one_carried(artifact) -> None:
    path, row = artifact("gru", states=True), sequence()
    state = np.full((1, 4), 0.5, np.float32)
    expected = in_one_run(Session(path, "cpu"), row[10:], h_0=state)
    stream = Session(path, "cpu").stream()
    stream.push(row[:10])
    assert_near(stream.push({"x": row[10:15], "h_0": state})["output"], expected["output"][:5])
    assert_near(stream.push(row[15:])["h_T"], expected["h_T"])
    streams = Session(path, "cpu").streams()
    for _ in range(2):  # the second time in the arrays of the first
        streams.push({"a": row[:10], "b": row[:10]})
    both = streams.push({"a": {"x": row[10:], "h_0": state}, "b": row[10:]})
    assert_near(both["a"]["output"], expected["output"])
    assert np.abs(both["b"]["output"] - both["a"]["output"]).max() > 1e-3
    with pytest.raises(InputSizeError, match="the state 'h_0' came with a chunk of 0 steps, which changes nothing"):
        stream.push({"x": row[:0], "h_0": state})


@pytest.mark.parametrize(
    ("chunk", "error", "said"),
    [
        ({"a": sequence()}, InputNameError, r"the keys \[\"'a'\"\], expected the inputs \['x'\]: .*session.streams"),
        ({"x": sequence(), "lengths": 3}, InputNameError, "input 'lengths' came: leave it out, a chunk's steps are"),
        ({"x": sequence(), "y": 3}, InputNameError, "input 'y' unknown"),
        (sequence().astype(np.float64), InputDtypeError, "input 'x' came as float64, expected float32"),
        (sequence()[0], InputRankError, r"input 'x' has 1 axes, \[3\], expected 2, \[seq, 3\]"),
        (sequence()[None], InputRankError, "input 'x' has 3 axes"),
        (3.0, InputRankError, "input 'x' has 0 axes"),
        (np.zeros((0, 4), np.float32), InputSizeError, r"input 'x' has the shape \[0, 4\]"),
    ],
)
def test_a_wrong_chunk_is_one_clear_error(artifact, chunk, error, said) -> None:
    stream = Session(artifact("gru"), "cpu").stream()
    with pytest.raises(error, match=said):
        stream.push(chunk)


def test_a_bare_array_is_no_dict_of_ids(artifact) -> None:
    streams = Session(artifact("gru"), "cpu").streams()
    with pytest.raises(InputError, match=r"chunks came as ndarray, expected a dict of ids to chunks: .*session.stream"):
        streams.push(sequence())  # type: ignore[arg-type]


def test_lists_are_chunks_too(artifact) -> None:
    stream = Session(artifact("gru", vocab_size=VOCABULARY), "cpu").stream()
    listed = [stream.push([1, 2, 3])["output"], stream.push([4])["output"]]
    stream.reset()
    assert_near(np.concatenate(listed), stream.push(np.array([1, 2, 3, 4]))["output"])


def test_a_push_waits_for_the_one_before(artifact) -> None:
    session = Session(artifact("gru"), "cpu")
    stream, streams = session.stream(), session.streams()
    run = stream._model.session.run

    class Slow:
        def run(self, names: Any, feed: Any) -> Any:
            time.sleep(0.002)
            return run(names, feed)

    stream._model.session = Slow()  # type: ignore[assignment]

    def push() -> None:
        for step in sequence()[:5]:
            stream.push(step[None])
            streams.push({"shared": step[None]})

    in_threads([push] * 4)
    assert stream.steps == streams.steps("shared") == 20, "a step of one thread was lost to another"


def test_threads_that_open_at_once_open_one_model(artifact, monkeypatch) -> None:
    opened, real = [], streaming.open_for_streams

    def slow(*arguments: Any) -> Any:
        opened.append(1)
        time.sleep(0.05)
        return real(*arguments)

    monkeypatch.setattr(streaming, "open_for_streams", slow)
    session = Session(artifact("gru"), "cpu")
    in_threads([session.stream, session.streams, session.stream])
    assert len(opened) == 1


def in_threads(calls: Sequence[Callable[[], Any]]) -> None:
    threads = [threading.Thread(target=call) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_threads_push_at_once(artifact) -> None:
    session = Session(artifact("lstm"), "cpu")
    plain, streams = Session(session.path, "cpu"), session.streams()
    rows = {name: sequence(seed=name) for name in range(6)}
    found: dict[int, list[np.ndarray]] = {name: [] for name in rows}

    def feed(name: int) -> None:
        for step in rows[name]:
            found[name].append(streams.push({name: step[None]})[name]["output"])
            session.run({"x": rows[name][None], "lengths": [STEPS]})

    in_threads([functools.partial(feed, name) for name in rows])
    for name, row in rows.items():
        assert_near(np.concatenate(found[name]), in_one_run(plain, row)["output"])


def test_the_session_runs_one_model_for_all(artifact) -> None:
    """The weights are held once: runs before and after are the same to the bit."""
    session = Session(artifact("lstm", states=True), "cpu")
    batch = {"x": sequence()[None].repeat(3, 0), "lengths": np.array([STEPS, 4, 1])}
    batch |= {name: np.ones((1, 3, 4), np.float32) for name in ("h_0", "c_0")}
    before = session.run(batch)
    assert session.stream()._model is session.streams()._model
    assert session._model.session is session.stream()._model.session
    for name, value in session.run(batch).items():
        np.testing.assert_array_equal(value, before[name])


def test_a_plain_file_says_nothing_of_steps(artifact) -> None:
    with pytest.raises(NoMetadataError, match="nothing says which input holds the lengths"):
        Session(artifact("gru", metadata=""), "cpu").stream()
