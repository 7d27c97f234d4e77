"""Generation: state is carried, rows end on their own, and any runtime gives the same tokens."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from seqport.runtime import (
    ArtifactError,
    EmptyBatchError,
    InputError,
    InputNameError,
    InputRankError,
    InputSizeError,
    Session,
    generate,
    read_description,
)

FIRST = [1, 4, 2, 0]
STEPS = 12


@pytest.fixture(params=["rnn", "gru", "lstm"])
def session(artifact, request) -> Session:
    return Session(artifact(request.param, vocab_size=5, states=True), "cpu")


def _zeros(session: Session, batch_size: int) -> dict[str, np.ndarray]:
    return {state.input: np.zeros((1, batch_size, 4), np.float32) for state in session.description.states}


def _in_one_run(session: Session, first: int, tokens: np.ndarray, states: dict[str, np.ndarray]) -> np.ndarray:
    """What the model says to the whole generated sequence at once, without any loop of ours."""
    ids = np.array([[first, *tokens[:-1]]])
    out = session.run({"ids": ids, "lengths": np.array([ids.shape[1]]), **states})
    return out["output"][0].argmax(-1)


def test_tokens_are_what_one_run_over_them_gives(session) -> None:
    rows = session.generate(FIRST, max_steps=STEPS)
    assert [(row.shape, row.dtype) for row in rows] == [((STEPS,), np.int64)] * 4
    for first, row in zip(FIRST, rows, strict=True):
        np.testing.assert_array_equal(row, _in_one_run(session, first, row, _zeros(session, 1)))
    assert any(len(set(row)) > 2 for row in rows), "a model that says one thing proves nothing"


def test_state_matters_here(session) -> None:
    """The check above would pass without state if the state never changed a token."""
    forgetful = lambda inputs: session.run({**inputs, **_zeros(session, len(inputs["ids"]))})  # noqa: E731
    rows = session.generate(FIRST, max_steps=STEPS)
    without = generate.greedy(forgetful, session.description, FIRST, max_steps=STEPS)
    assert any((a != b).any() for a, b in zip(rows, without, strict=True))


def test_a_stopped_row_ends_there_and_leaves_the_batch(session) -> None:
    free = session.generate(FIRST, max_steps=STEPS)
    stop = int(free[0][3])
    sizes: list[int] = []
    step = lambda inputs: sizes.append(len(inputs["lengths"])) or session.run(inputs)  # noqa: E731
    rows = generate.greedy(step, session.description, FIRST, max_steps=STEPS, stop=stop)
    ends = [int(np.argmax(row == stop)) if stop in row else STEPS for row in free]
    for row, whole, end in zip(rows, free, ends, strict=True):
        np.testing.assert_array_equal(row, whole[:end])
        assert row.dtype == np.int64
    assert sizes == [sum(end >= step for end in ends) for step in range(min(STEPS, max(ends) + 1))]
    assert sizes[-1] < len(FIRST)


def test_all_rows_stopped_at_once(session) -> None:
    stop = int(session.generate([1], max_steps=1)[0][0])
    calls: list[int] = []
    step = lambda inputs: calls.append(1) or session.run(inputs)  # noqa: E731
    rows = generate.greedy(step, session.description, [1, 1], max_steps=STEPS, stop=stop)
    assert [(row.shape, row.dtype) for row in rows] == [((0,), np.int64)] * 2
    assert len(calls) == 1


def test_rows_do_not_depend_on_each_other(session) -> None:
    together = session.generate(FIRST, max_steps=STEPS)
    for first, row in zip(FIRST, together, strict=True):
        np.testing.assert_array_equal(session.generate([first], max_steps=STEPS)[0], row)


def test_given_states_are_the_start(session) -> None:
    random = np.random.default_rng(0)
    states = {name: random.normal(size=zero.shape).astype(np.float32) for name, zero in _zeros(session, 1).items()}
    row = session.generate([1], states=states, max_steps=STEPS)[0]
    np.testing.assert_array_equal(row, _in_one_run(session, 1, row, states))
    assert (row != session.generate([1], max_steps=STEPS)[0]).any()


def test_another_runtime_gives_the_same_tokens(artifact) -> None:
    """The same loop over a network in float64 NumPy."""
    path = artifact("rnn", vocab_size=5, states=True)
    w = {i.name: numpy_helper.to_array(i).astype(np.float64) for i in onnx.load(path).graph.initializer}

    def step(inputs):
        assert inputs["lengths"].tolist() == [1] * len(inputs["ids"])
        x_t = w["embedding"][inputs["ids"][:, 0]]
        h_t = np.tanh(x_t @ w["W"][0].T + inputs["h_0"][0] @ w["R"][0].T)
        return {"output": (h_t @ w["W_oh"])[:, None], "h_T": h_t[None]}

    ours = Session(path, "cpu").generate(FIRST, max_steps=STEPS)
    for row, expected in zip(generate.greedy(step, read_description(path), FIRST, max_steps=STEPS), ours, strict=True):
        np.testing.assert_array_equal(row, expected)


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_features_go_back_in(artifact, cell) -> None:
    session = Session(artifact(cell, out_dim=3, states=True), "cpu")
    first = np.random.default_rng(0).normal(size=(2, 3)).astype(np.float32)
    rows = session.generate(first, max_steps=5)
    for start, row in zip(first, rows, strict=True):
        assert (row.shape, row.dtype) == ((5, 3), np.float32)
        x = np.concatenate([start[None], row[:-1]])[None]
        out = session.run({"x": x, "lengths": np.array([5]), **_zeros(session, 1)})
        np.testing.assert_allclose(row, out["output"][0], rtol=0, atol=1e-6)


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
def test_the_encoders_state_starts_the_decoder(artifact, cell) -> None:
    encoder = Session(artifact(cell, vocab_size=7, head=False, seed=1), "cpu")
    decoder = Session(artifact(cell, vocab_size=5, states=True), "cpu")
    source = {"ids": np.array([[6, 2, 3], [5, 0, 0], [1, 4, 0]]), "lengths": np.array([3, 1, 2])}
    rows = decoder.generate(4, encoder=encoder, inputs=source, max_steps=STEPS)
    same = decoder.generate([4, 4, 4], states=encoder.run(source), max_steps=STEPS)
    for n, row in enumerate(rows):
        steps = source["lengths"][n]
        final = encoder.run({"ids": source["ids"][n : n + 1, :steps], "lengths": source["lengths"][n : n + 1]})
        states = {"h_0": final["h_T"], **({"c_0": final["c_T"]} if cell == "lstm" else {})}
        np.testing.assert_array_equal(row, _in_one_run(decoder, 4, row, states))
        np.testing.assert_array_equal(row, same[n])
    assert len({tuple(row) for row in rows}) > 1, "the source must matter"


def test_answers_of_another_network_hold_all_states_or_none(artifact) -> None:
    decoder = Session(artifact("lstm", vocab_size=5, states=True), "cpu")
    with pytest.raises(ArtifactError, match=r"states are \['h_T', 'c_T'\], and the encoder gives \['h_T', 'other'\]"):
        decoder.generate(0, states={"h_T": np.zeros((1, 1, 4), np.float32), "other": 0}, max_steps=1)


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_the_source_may_be_ragged(artifact, cell) -> None:
    """As a list for `predict`, in place of a padded batch."""
    encoder = Session(artifact(cell, vocab_size=7, seed=1), "cpu")
    decoder = Session(artifact(cell, vocab_size=5, states=True), "cpu")
    items = [[6, 2, 3], [5], [1, 4]]
    padded = {"ids": [[6, 2, 3], [5, 0, 0], [1, 4, 0]], "lengths": [3, 1, 2]}
    ragged = decoder.generate(4, encoder=encoder, inputs=items, max_steps=STEPS)
    for row, expected in zip(ragged, decoder.generate(4, states=encoder.run(padded), max_steps=STEPS), strict=True):
        np.testing.assert_array_equal(row, expected)
    with pytest.raises(EmptyBatchError, match="inputs is empty"):
        decoder.generate(4, encoder=encoder, inputs=[], max_steps=1)


def test_several_tokens_may_end_a_row(session) -> None:
    free = session.generate(FIRST, max_steps=STEPS)
    stops = [int(free[0][3]), int(free[1][2])]
    for form in (stops, tuple(stops), set(stops), np.array(stops)):
        for row, whole in zip(session.generate(FIRST, max_steps=STEPS, stop=form), free, strict=True):
            ends = np.flatnonzero(np.isin(whole, stops))
            np.testing.assert_array_equal(row, whole[: ends[0] if len(ends) else STEPS])


def test_a_callable_may_end_a_row(session) -> None:
    free = session.generate(FIRST, max_steps=STEPS)
    asked: list[tuple[int, int]] = []

    def until(row: int, values: np.ndarray) -> bool:
        asked.append((row, len(values)))
        np.testing.assert_array_equal(values, free[row][: len(values)])
        with pytest.raises(ValueError, match="read-only"):
            values[0] = 0
        return len(values) == 2 + row

    rows = session.generate(FIRST, max_steps=STEPS, until=until)
    assert [len(row) for row in rows] == [2, 3, 4, 5]
    for row, whole in zip(rows, free, strict=True):
        np.testing.assert_array_equal(row, whole[: len(row)])
    assert sorted(asked) == [(row, step) for row in range(4) for step in range(1, 3 + row)]


def test_waiting_rows_take_the_place_of_those_that_ended(session, monkeypatch) -> None:
    first = [1, 4, 2, 0, 3, 1, 4]
    random = np.random.default_rng(0)
    states = {name: random.normal(size=zero.shape).astype("f") for name, zero in _zeros(session, len(first)).items()}
    alone = session.generate(first, states=states, max_steps=STEPS)
    stop = int(alone[0][1])
    whole = session.generate(first, states=states, max_steps=STEPS, stop=stop)
    sizes: list[int] = []
    run = session.run
    monkeypatch.setattr(session, "run", lambda inputs: sizes.append(len(inputs["lengths"])) or run(inputs))
    few = session.generate(first, states=states, max_steps=STEPS, stop=stop, batch_size=3)
    for row, expected in zip(few, whole, strict=True):
        np.testing.assert_array_equal(row, expected)
    assert max(sizes) == 3 and len({len(row) for row in whole}) > 1
    # A row takes a step for each of its tokens, and one more to say that it stops.
    assert sum(sizes) == sum(len(row) + (len(row) < STEPS) for row in whole)
    assert sizes[:-STEPS].count(3) == len(sizes[:-STEPS]), "no place stays empty while rows wait"


def test_long_rows(session) -> None:
    """Longer than what is made room for at first."""
    row = session.generate([1], max_steps=200)[0]
    np.testing.assert_array_equal(row, _in_one_run(session, 1, row, _zeros(session, 1)))


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"encoder": "itself"}, "encoder came without inputs: give both"),
        ({"inputs": [[1]]}, "inputs came without encoder: give both"),
        ({"encoder": "itself", "inputs": [[1]], "states": {}}, "states and encoder both came"),
        ({"batch_size": 0}, "batch_size is 0, expected at least 1 row a step"),
    ],
)
def test_arguments_that_do_not_go_together(artifact, arguments, match) -> None:
    session = Session(artifact("gru", vocab_size=5, states=True), "cpu")
    if "encoder" in arguments:
        arguments = {**arguments, "encoder": session}
    with pytest.raises(InputError, match=match):
        session.generate([1], max_steps=2, **arguments)


def test_features_that_cannot_go_back_in(artifact) -> None:
    with pytest.raises(ArtifactError, match=r"'output' \[batch, seq, 5\] cannot go back in as 'x' \[batch, seq, 3\]"):
        Session(artifact("gru", states=True), "cpu").generate([[1.0, 2.0, 3.0]], max_steps=2)


def test_an_encoder_that_keeps_its_state_to_itself(artifact) -> None:
    encoder = Session(artifact("gru", vocab_size=7, head=False), "cpu")
    decoder = Session(artifact("lstm", vocab_size=5, states=True), "cpu")
    with pytest.raises(ArtifactError, match=r"states are \['h_T', 'c_T'\], and the encoder gives \['h_T'\]"):
        decoder.generate(0, encoder=encoder, inputs={"ids": [[1]], "lengths": [1]}, max_steps=1)


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"first": []}, EmptyBatchError, "first is empty"),
        ({"first": [[1]]}, InputRankError, r"first has the shape \[1, 1\], expected 1 axes: one step of 'ids'"),
        ({"max_steps": 0}, InputError, "max_steps is 0, expected at least 1"),
        (
            {"states": {"h_0": np.zeros((1, 4), np.float32)}},
            InputRankError,
            r"'h_0' has the shape \[1, 4\], expected",
        ),
        ({"states": {"h": 0}}, InputNameError, r"states \['h'\] came, expected some of \['h_0'\]"),
        (
            {"states": {"h_0": np.zeros((1, 3, 4), np.float32)}},
            InputSizeError,
            r"state 'h_0' has the shape \[1, 3, 4\], with 3 rows on axis 1, and first has 1",
        ),
    ],
)
def test_wrong_arguments(artifact, arguments, error, match) -> None:
    session = Session(artifact("gru", vocab_size=5, states=True), "cpu")
    with pytest.raises(error, match=match):
        session.generate(**{"first": [1], "max_steps": 2, **arguments})


def test_features_have_no_stop_token(artifact) -> None:
    session = Session(artifact("gru", out_dim=3, states=True), "cpu")
    with pytest.raises(InputError, match="stop is 1, but 'x' takes features, not tokens"):
        session.generate([[1.0, 2.0, 3.0]], max_steps=2, stop=1)


def test_a_model_without_state(artifact) -> None:
    description = read_description(artifact("gru"))
    with pytest.raises(ArtifactError, match="takes no state, so each step would forget the last"):
        generate.greedy(dict, replace(description, outputs=description.outputs[:1]), [[1.0, 2.0, 3.0]], max_steps=1)


def test_a_model_with_more_than_one_answer(artifact) -> None:
    description = read_description(artifact("gru", vocab_size=5, states=True))
    two = replace(description, outputs=(*description.outputs, replace(description.outputs[0], name="other")))
    with pytest.raises(ArtifactError, match=r"one output beside the states; .*\['output', 'h_T', 'other'\]"):
        generate.greedy(dict, two, [1], max_steps=1)
