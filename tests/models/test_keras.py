"""The Keras models against the oracle, and the faults that this comparison must notice."""

from __future__ import annotations

import numpy as np
import pytest

from seqport.models import Weights, WeightsError, oracle
from seqport.models import keras as models
from seqport.models.layouts import keras as layout


def run(model, inputs):
    return {name: np.asarray(out) for name, out in model(list(inputs.values())).items()}


def test_agrees_with_the_oracle_whatever_the_padding_holds(every_network, padded, polluted, trimmed, assert_same):
    weights = Weights.random(every_network, seed=1)
    layers = {}
    for part in every_network.parts():
        model = models.build(part, weights)
        inputs = padded(part)
        expected = oracle.run(part, weights, inputs)
        assert_same(trimmed(run(model, polluted(inputs, part)), part), expected, inputs["lengths"])
        layers[part.name] = model.layer_weights()
    back = Weights.from_keras(every_network, layers)
    assert [(name, a.tobytes()) for name, a in back.items()] == [(n, a.tobytes()) for n, a in weights.items()]


@pytest.mark.parametrize(("cell", "order"), [("gru", ("_r", "_z", "_n")), ("lstm", ("_i", "_g", "_f", "_o"))])
def test_a_swapped_gate_is_noticed(cell, order, make_spec, padded, assert_same, monkeypatch):
    spec = make_spec(cell=cell)
    (part,) = spec.parts()
    weights, inputs = Weights.random(spec, seed=3), padded(part)
    expected = oracle.run(part, weights, inputs)
    assert_same(run(models.build(part, weights), inputs), expected, inputs["lengths"])
    monkeypatch.setitem(layout._ORDER, cell, order)
    model = models.build(part, weights)
    back = Weights.from_keras(spec, {"model": model.layer_weights()})
    assert all(np.array_equal(back[name], weights[name]) for name in weights)  # a round trip sees nothing
    with pytest.raises(AssertionError, match="output: the largest difference"):
        assert_same(run(model, inputs), expected, inputs["lengths"])


def test_a_row_without_steps_keeps_its_initial_state(make_spec, padded, assert_same):
    spec = make_spec(initial_state=True)
    weights, (part,) = Weights.random(spec, seed=3), spec.parts()
    inputs = padded(part) | {"lengths": np.array([2, 0, 1, 3, 4])}
    found = run(models.build(part, weights), inputs)
    assert_same(found, oracle.run(part, weights, inputs), inputs["lengths"])
    assert np.array_equal(found["c_T"][:, 1], inputs["c_0"][:, 1])


def test_what_training_moves_is_in_the_neutral_weights(every_cell, make_spec, padded, assert_same):
    spec = make_spec(**every_cell)
    (part,) = spec.parts()
    model = models.build(part)
    inputs = padded(part)
    targets = np.full((5, 4, 5), 0.5, np.float32)
    model.compile(optimizer="sgd", loss={"output": "mse"}, run_eagerly=True)
    history = model.fit(list(inputs.values()), {"output": targets}, epochs=2, verbose="0")
    assert history.history["loss"][-1] < history.history["loss"][0]
    weights = Weights.from_keras(spec, {"model": model.layer_weights()})
    assert_same(run(model, inputs), oracle.run(part, weights, inputs), inputs["lengths"])


def test_refuses_the_layers_of_another_model(make_spec):
    spec = make_spec()
    layers = models.build(make_spec(num_hidden_units=6).parts()[0]).layer_weights()
    with pytest.raises(WeightsError, match=r"'recurrent_0\[0\]' is float32 \[3, 24\]: expected float32 \[3, 16\]"):
        Weights.from_keras(spec, {"model": layers})


def test_an_input_keeps_its_name(make_spec):
    (part,) = make_spec(initial_state=True, vocab_size=7).parts()
    model = models.build(part)
    assert [tensor.name for tensor in model.inputs] == ["ids", "lengths", "h_0", "c_0"]
    assert [tuple(tensor.shape) for tensor in model.inputs] == [(None, None), (None,), (4, None, 4), (4, None, 4)]
