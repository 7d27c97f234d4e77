"""Drawn tokens: as likely as the model says, the same for the same seed, whatever else is in the batch."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from seqport.runtime import InputError, InputSizeError, InputValueError, Session
from seqport.runtime.sampling import Sampler, Sampling

LOGITS = np.array([2.0, 0.5, -1.0, 1.5, 0.0], np.float32)


def _drawn(o_t: np.ndarray, rows: int, *, probabilities: bool = False, **options: Any) -> np.ndarray:
    """One token for each of many rows to which the model says the same."""
    sampler = Sampler(Sampling(**{"temperature": 1.0, "seed": 0, **options}), rows, probabilities=probabilities)
    return sampler(np.tile(o_t, (rows, 1)), np.arange(rows))


def _softmax(values: np.ndarray) -> np.ndarray:
    chances = np.exp(values.astype(np.float64))
    return chances / chances.sum()


def _assert_as_likely(tokens: np.ndarray, expected: np.ndarray) -> None:
    """Within four standard deviations of a true draw; nothing where nothing may be."""
    found = np.bincount(tokens, minlength=len(expected)) / len(tokens)
    assert (found[expected == 0] == 0).all()
    assert (np.abs(found - expected) <= 4 * np.sqrt(expected * (1 - expected) / len(tokens))).all(), found


@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
@pytest.mark.parametrize("probabilities", [False, True])
def test_tokens_are_as_likely_as_the_model_says(temperature, probabilities) -> None:
    said = _softmax(LOGITS).astype(np.float32) if probabilities else LOGITS
    tokens = _drawn(said, 4000, temperature=temperature, probabilities=probabilities)
    _assert_as_likely(tokens, _softmax(LOGITS / temperature))


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ({"top_k": 2}, [0, 3]),
        ({"top_k": 1}, [0]),
        ({"top_k": 5}, [0, 1, 2, 3, 4]),
        ({"top_k": 99}, [0, 1, 2, 3, 4]),
        ({"top_p": 0.49}, [0]),  # the first alone has 0.496
        ({"top_p": 0.5}, [0, 3]),
        ({"top_p": 0.82}, [0, 1, 3]),
        ({"top_p": 1e-9}, [0]),
        ({"top_p": 1.0}, [0, 1, 2, 3, 4]),
        ({"top_k": 3, "top_p": 0.85}, [0, 3]),  # of what top_k leaves, these are 0.88
    ],
)
def test_only_the_likeliest_are_drawn(options, kept) -> None:
    allowed = np.isin(np.arange(5), kept)
    expected = np.where(allowed, _softmax(LOGITS), 0)
    _assert_as_likely(_drawn(LOGITS, 4000, **options), expected / expected.sum())


def test_of_equal_tokens_the_first_ones_are_kept() -> None:
    assert set(_drawn(np.zeros(5, np.float32), 200, top_k=2).tolist()) == {0, 1}


def test_what_cannot_be_is_never_drawn() -> None:
    tokens = _drawn(np.array([-np.inf, 0.0, -np.inf, 0.0, -np.inf], np.float32), 500)
    assert set(tokens.tolist()) == {1, 3}
    with_zeros = _drawn(np.array([0.0, 0.5, 0.5, 0.0], np.float32), 500, probabilities=True)
    assert set(with_zeros.tolist()) == {1, 2}


def test_a_token_stands_where_its_number_falls() -> None:
    """The rule itself, anew: PCG64 of SeedSequence(seed, spawn_key=(row,)), cumulated in the order of tokens."""
    sampler = Sampler(Sampling(1.0, seed=7), 5, probabilities=False)
    tokens = np.array([sampler(np.tile(LOGITS, (5, 1)), np.arange(5)) for _ in range(150)])  # [step, row]
    ends = np.cumsum(_softmax(LOGITS))
    for row in range(5):
        stream = np.random.Generator(np.random.PCG64(np.random.SeedSequence(7, spawn_key=(row,))))
        np.testing.assert_array_equal(tokens[:, row], np.searchsorted(ends, stream.random(150), side="right"))


def test_a_tiny_difference_of_the_logits_changes_no_token() -> None:
    """As between two runtimes: also where it changes which of two tokens is the likelier one."""
    close = np.array([1.0, 1.0, 0.5, 1.0], np.float32)
    other = close + np.array([0, 1e-6, 0, -1e-6], np.float32)
    assert (close.argsort() != other.argsort()).any()
    np.testing.assert_array_equal(_drawn(close, 500), _drawn(other, 500))


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_what_is_no_distribution_is_refused(wrong) -> None:
    with pytest.raises(InputValueError, match=f"row 0: the model answers {wrong}, from which no token can be drawn"):
        _drawn(np.array([0.0, wrong, 1.0], np.float32), 2)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"temperature": -1.0}, r"temperature is -1.0, expected 0 \(the likeliest token\) or more"),
        ({"temperature": math.nan}, "temperature is nan"),
        ({"temperature": 1.0, "top_k": 0}, "top_k is 0, expected at least 1"),
        ({"temperature": 1.0, "top_p": 0.0}, "top_p is 0.0, expected above 0 and at most 1"),
        ({"temperature": 1.0, "top_p": 1.5}, "top_p is 1.5"),
        ({"top_k": 3}, "top_k is 3, but with temperature 0 nothing is drawn: give a temperature"),
        ({"seed": 3}, "seed is 3, but with temperature 0"),
    ],
)
def test_options_without_a_meaning_are_refused(options, match) -> None:
    with pytest.raises(InputError, match=match):
        Sampling(**options)


# ---- whole rows, by a session

FIRST = [1, 4, 2, 0, 3, 1, 1]
STEPS = 100  # beyond the numbers that a stream draws at once


@pytest.fixture(params=["rnn", "gru", "lstm"])
def session(artifact, request) -> Session:
    return Session(artifact(request.param, vocab_size=5, states=True), "cpu")


def _generate(session: Session, first: list[int] = FIRST, **options: Any) -> list[list[int]]:
    return [row.tolist() for row in session.generate(first, max_steps=STEPS, **{"temperature": 2.0, **options})]


def test_one_seed_one_answer(session) -> None:
    rows = _generate(session, seed=5)
    assert rows == _generate(session, seed=5)
    assert rows != _generate(session, seed=6)
    assert rows[5] != rows[6], "two rows that begin alike"
    assert _generate(session) != _generate(session), "without a seed"


@pytest.mark.parametrize("batch_size", [1, 3, 256])
def test_a_row_is_drawn_alike_in_any_batch(session, batch_size) -> None:
    rows = _generate(session, seed=5, batch_size=batch_size)
    assert rows == _generate(session, seed=5)
    assert rows[:3] == _generate(session, FIRST[:3], seed=5)
    for place in (0, 4, 6):
        assert _generate(session, [FIRST[place]], seed=[(5, place)]) == [rows[place]]
    assert _generate(session, [2, 1], seed=[9, 5])[1] == _generate(session, [1], seed=5)[0]


def test_rows_that_end_leave_the_others_as_they_are(session) -> None:
    rows = _generate(session, seed=5)
    stop = rows[0][3]
    ended = _generate(session, seed=5, stop=stop)
    assert ended == [row[: row.index(stop)] if stop in row else row for row in rows]
    assert len({len(row) for row in ended}) > 1


def test_a_model_that_says_probabilities_is_drawn_from_as_one_that_says_logits(artifact) -> None:
    path = artifact("gru", vocab_size=5, states=True)
    logits = Session(path, "cpu")
    model = onnx.load(path)
    next(node for node in model.graph.node if "output" in node.output).output[0] = "logits"
    model.graph.node.append(helper.make_node("Softmax", ["logits"], ["output"], axis=-1))
    onnx.save(model, path.with_name("softmax.onnx"))
    probabilities = Session(path.with_name("softmax.onnx"), "cpu")
    one_step = {"ids": [[1]], "lengths": [1], "h_0": np.zeros((1, 1, 4), np.float32)}
    assert probabilities.run(one_step)["output"].sum() == pytest.approx(1)
    several: tuple[dict[str, Any], ...] = ({}, {"top_k": 3}, {"top_p": 0.8})
    for options in several:
        assert _generate(logits, seed=1, **options) == _generate(probabilities, seed=1, **options)


def test_another_runtime_draws_the_same_tokens(artifact) -> None:
    """The network in float64 NumPy: its logits agree to float32's precision."""
    path = artifact("rnn", vocab_size=5, states=True)
    w = {i.name: numpy_helper.to_array(i).astype(np.float64) for i in onnx.load(path).graph.initializer}
    session = Session(path, "cpu")
    ours = session.generate(FIRST, max_steps=STEPS, temperature=1.5, top_p=0.9, seed=3)

    def step(inputs):
        x_t = w["embedding"][inputs["ids"][:, 0]]
        h_t = np.tanh(x_t @ w["W"][0].T + inputs["h_0"][0] @ w["R"][0].T)
        return {"output": (h_t @ w["W_oh"])[:, None], "h_T": h_t[None]}

    session.run = step  # type: ignore[method-assign, assignment]
    theirs = session.generate(FIRST, max_steps=STEPS, temperature=1.5, top_p=0.9, seed=3)
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("seed", "error", "match"),
    [
        ([1, 2], InputSizeError, "seed has 2 entries for 7 rows, expected one a row, or one int"),
        (-1, InputError, "seed -1 is negative"),
        ([0, 0, 0, (1, -2), 0, 0, 0], InputError, r"seed \(1, -2\) is negative"),
    ],
)
def test_a_seed_that_fits_no_rows(session, seed, error, match) -> None:
    with pytest.raises(error, match=match):
        _generate(session, seed=seed)


def test_features_are_not_drawn(artifact) -> None:
    session = Session(artifact("gru", out_dim=3, states=True), "cpu")
    with pytest.raises(InputError, match=r"temperature is 1\.0, but 'x' takes features, not tokens"):
        session.generate([[1.0, 2.0, 3.0]], max_steps=2, temperature=1.0)
