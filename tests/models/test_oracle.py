"""The oracle against the equations on one unit, written out by hand, and against its own promises."""

from __future__ import annotations

from math import exp, tanh

import numpy as np
import pytest

from seqport.models import ModelSpec, SpecError, Weights, oracle

# One input, one hidden unit: every weight is a number. W_hx, W_hh, b_h of each gate.
RNN = (0.5, -0.7, 0.2)
GRU = {"r": (0.9, -0.4, 0.1), "z": (-0.6, 0.8, 0.3), "n": (0.7, 1.1, -0.2)}
LSTM = {"i": (0.9, -0.4, 0.1), "f": (-0.6, 0.8, 0.3), "g": (0.7, 1.1, -0.2), "o": (0.4, 0.6, -0.5)}
B_HH_N = 0.35
X = (0.8, -1.3, 0.4)


def sigma(a):
    return 1 / (1 + exp(-a))


def gate(weights, x, h):
    W_hx, W_hh, b_h = weights
    return W_hx * x + W_hh * h + b_h


def one_unit(gates, **choices):
    spec = ModelSpec(input_dim=1, num_hidden_units=1, out_dim=1, seq_max_len=3, strategy="many_to_many", **choices)
    numbers = {"model.W_oh": 2.0, "model.b_o": -1.0}
    for name, weights in gates.items():
        suffix = f"_{name}" if name else ""
        for kind, number in zip(("W_hx", "W_hh", "b_h"), weights, strict=True):
            numbers[f"model.layers.0.forward.{kind}{suffix}"] = number
    if spec.parts()[0].has_inner_bias:
        numbers["model.layers.0.forward.b_hh_n"] = B_HH_N
    shapes = spec.parts()[0].weight_shapes()
    arrays = {name: np.full(shapes[name], number, np.float64) for name, number in numbers.items()}
    x = np.array(X).reshape(1, 3, 1)
    return oracle.run(spec, arrays, {"x": x, "lengths": np.array([3])})


@pytest.mark.parametrize(("activation", "f"), [("tanh", tanh), ("relu", lambda a: max(a, 0.0))])
def test_rnn(activation, f):
    h, outputs = 0.0, []
    for x in X:
        h = f(gate(RNN, x, h))
        outputs.append(2 * h - 1)
    found = one_unit({"": RNN}, cell="rnn", activation=activation)
    assert found["output"].ravel() == pytest.approx(outputs, abs=1e-15)
    assert found["h_T"].item() == pytest.approx(h, abs=1e-15)


@pytest.mark.parametrize("reset_gate", ["before", "after"])
def test_gru(reset_gate):
    h, outputs = 0.0, []
    W_hx, W_hh, b_h = GRU["n"]
    for x in X:
        r, z = sigma(gate(GRU["r"], x, h)), sigma(gate(GRU["z"], x, h))
        inner = W_hh * (r * h) if reset_gate == "before" else r * (W_hh * h + B_HH_N)
        h = (1 - z) * tanh(W_hx * x + b_h + inner) + z * h
        outputs.append(2 * h - 1)
    found = one_unit(GRU, cell="gru", reset_gate=reset_gate)
    assert found["output"].ravel() == pytest.approx(outputs, abs=1e-15)


def test_lstm():
    h, c, outputs = 0.0, 0.0, []
    for x in X:
        i, f, o = (sigma(gate(LSTM[name], x, h)) for name in "ifo")
        c = f * c + i * tanh(gate(LSTM["g"], x, h))
        h = o * tanh(c)
        outputs.append(1 / (1 + exp(-(2 * h - 1))))
    found = one_unit(LSTM, cell="lstm", output="sigmoid")
    assert found["output"].ravel() == pytest.approx(outputs, abs=1e-15)
    assert found["c_T"].item() == pytest.approx(c, abs=1e-15)


def test_is_float64_and_leaves_its_inputs_alone(make_spec, padded):
    spec = make_spec(initial_state=True, output="softmax")
    weights, (part,) = Weights.random(spec, seed=1), spec.parts()
    inputs = padded(part)
    before = {name: array.copy() for name, array in inputs.items()}
    found = oracle.run(spec, weights, inputs)
    assert {array.dtype for array in found.values()} == {np.dtype(np.float64)}
    assert all(np.array_equal(inputs[name], array) for name, array in before.items())
    assert found["output"][0, :2].sum(axis=-1) == pytest.approx(np.ones(2), abs=1e-15)


def test_padding_company_and_order_do_not_matter(every_cell, make_spec, padded, polluted):
    spec = make_spec(**every_cell)
    weights, (part,) = Weights.random(spec, seed=1), spec.parts()
    inputs = padded(part)
    together = oracle.run(part, weights, polluted(inputs, part))
    for row, length in enumerate(inputs["lengths"]):
        row_alone = {"x": inputs["x"][row : row + 1, :length], "lengths": inputs["lengths"][row : row + 1]}
        alone = oracle.run(part, weights, row_alone)
        assert np.array_equal(alone["output"][0], together["output"][row, :length])
        assert np.array_equal(alone["h_T"][:, 0], together["h_T"][:, row])
        assert not together["output"][row, length:].any()


def test_a_row_without_steps_keeps_its_initial_state(make_spec, padded):
    spec = make_spec(initial_state=True)
    weights, (part,) = Weights.random(spec, seed=1), spec.parts()
    inputs = padded(part) | {"lengths": np.array([2, 0, 1, 3, 4])}
    found = oracle.run(part, weights, inputs)
    assert np.array_equal(found["h_T"][:, 1], inputs["h_0"][:, 1])
    assert np.array_equal(found["c_T"][:, 1], inputs["c_0"][:, 1])
    assert not found["output"][1].any()


def test_a_split_sequence_carries_its_state(every_cell, make_spec, padded):
    spec = make_spec(**every_cell, bidirectional=False, initial_state=True)
    weights, (part,) = Weights.random(spec, seed=1), spec.parts()
    inputs = padded(part) | {"lengths": np.full(5, 4)}
    whole = oracle.run(part, weights, inputs)
    lengths = np.full(5, 2)
    first = oracle.run(part, weights, inputs | {"x": inputs["x"][:, :2], "lengths": lengths})
    states = {name.replace("_T", "_0"): first[name] for name in part.outputs[1:]}
    second = oracle.run(part, weights, {"x": inputs["x"][:, 2:], "lengths": lengths, **states})
    assert np.array_equal(np.concatenate([first["output"], second["output"]], axis=1), whole["output"])
    assert np.array_equal(second["h_T"], whole["h_T"])


def test_several_parts_are_run_one_at_a_time(make_spec):
    spec = make_spec(strategy="encoder_decoder", bidirectional=False)
    with pytest.raises(SpecError, match=r"'encoder_decoder' has several parts: run one of ModelSpec.parts\(\)"):
        oracle.run(spec, Weights.random(spec, seed=1), {})
