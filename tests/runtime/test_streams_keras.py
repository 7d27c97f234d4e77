"""Streams of real exports from Keras, whose layers tell masked steps by a value: an id of 0, or a mask."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from seqport.exporters import Input, export
from seqport.runtime import CannotStreamError, InputValueError, Session

layers: Any = keras.layers
VOCABULARY, FEATURES, HIDDEN, STEPS = 9, 3, 4, 15
IDS = Input("ids", ("batch", "seq"), "int64")
X, MASK = Input("x", ("batch", "seq", FEATURES)), Input("mask", ("batch", "seq"), "bool")
BODIES: dict[str, Callable[[Any], Any]] = {
    "gru": lambda x: layers.GRU(HIDDEN)(x),
    "lstm-stacked": lambda x: layers.LSTM(HIDDEN)(layers.LSTM(HIDDEN, return_sequences=True)(x)),
    "rnn-tagger": lambda x: layers.Dense(2)(layers.SimpleRNN(HIDDEN, return_sequences=True)(x)),
}


@pytest.fixture(autouse=True)
def seeded() -> None:
    keras.utils.set_random_seed(0)


def exported(path: Path, model: keras.Model, *inputs: Input) -> Path:
    random = np.random.default_rng(0)
    model.set_weights([w + 0.1 * random.standard_normal(w.shape).astype(w.dtype) for w in model.get_weights()])
    export(model, path, inputs)
    return path


@pytest.mark.parametrize("name", BODIES)
def test_ids_stream_and_a_masked_step_within_a_chunk_is_refused(name, tmp_path) -> None:
    """Keras repeats the output before a masked step, which a chunk that begins with one does not have."""
    ids = keras.Input((None,), dtype="int64", name="ids")
    body = BODIES[name](layers.Embedding(VOCABULARY, FEATURES, mask_zero=True)(ids))
    model = keras.Model(ids, body)
    streams = Session(exported(tmp_path / "model.onnx", model, IDS), "cpu").streams()
    sizes = {0: [1, 5, 9], 1: [0, 4, 8], 2: [3, 0, 7]}
    rows = {seed: np.random.default_rng(seed).integers(1, VOCABULARY, sum(sizes[seed])) for seed in sizes}
    chunks = {seed: np.split(row, np.cumsum(sizes[seed])[:-1]) for seed, row in rows.items()}
    answers: dict[int, list[np.ndarray]] = {seed: [] for seed in rows}
    for turn in range(3):
        for seed, answer in streams.push({seed: parts[turn] for seed, parts in chunks.items()}).items():
            answers[seed].extend(answer.values())
    for seed, row in rows.items():
        expected = np.asarray(model(row[None]))[0]
        found = np.concatenate(answers[seed]) if expected.ndim == 2 else answers[seed][-1]
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
    before = streams.save(0)
    with pytest.raises(InputValueError, match="stream 0: step 1 of 'ids' is 0, which the model masks"):
        streams.push({0: np.array([4, 0, 5])})
    assert streams.save(0) == before


def test_masked_steps_go_in_where_their_outputs_are_zero(tmp_path) -> None:
    """A chunk may have no step that is kept, and leaves the state."""
    x, mask = keras.Input((None, FEATURES), name="x"), keras.Input((None,), dtype="bool", name="mask")
    y = layers.LSTM(HIDDEN, return_sequences=True, zero_output_for_mask=True)(x, mask=mask)
    model = keras.Model([x, mask], y)
    stream = Session(exported(tmp_path / "model.onnx", model, X, MASK), "cpu").stream()
    random = np.random.default_rng(1)
    row, kept = random.standard_normal((STEPS, FEATURES)).astype(np.float32), random.random(STEPS) < 0.5
    kept[4:6] = False
    ends = ((0, 4), (4, 6), (6, 7), (7, STEPS))
    parts = [stream.push({"x": row[a:b], "mask": kept[a:b]})["output"] for a, b in ends]
    expected = np.asarray(model([row[None], kept[None]]))[0]
    np.testing.assert_allclose(np.concatenate(parts), expected, rtol=0, atol=1e-6)


def test_a_layer_that_runs_backwards(tmp_path) -> None:
    x = keras.Input((None, FEATURES), name="x")
    model = keras.Model(x, layers.GRU(HIDDEN, go_backwards=True, name="late")(x))
    with pytest.raises(CannotStreamError, match=r"layer 'late' \(GRU\) cannot stream: it is reverse, so it needs the"):
        Session(exported(tmp_path / "model.onnx", model, X), "cpu").stream()
