"""The PyTorch modules against the oracle, and the faults that this comparison must notice."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from seqport.models import Weights, WeightsError, oracle, pytorch
from seqport.models.layouts import pytorch as layout
from seqport.models.reset_before import ResetBeforeGRU


def run(module, inputs):
    with torch.no_grad():
        outputs = module(*(torch.tensor(array) for array in inputs.values()))
    return {name: out.numpy() for name, out in zip(module.part.outputs, outputs, strict=True)}


def test_agrees_with_the_oracle_whatever_the_padding_holds(every_spec, padded, polluted, trimmed, assert_same):
    weights = Weights.random(every_spec, seed=1)
    for part in every_spec.parts():
        module = pytorch.build(part, weights).eval()
        inputs = padded(part)
        expected = oracle.run(part, weights, inputs)
        assert_same(run(module, inputs), expected, inputs["lengths"])
        assert_same(trimmed(run(module, polluted(inputs, part)), part), expected, inputs["lengths"])


def test_weights_come_back_bit_for_bit(every_network):
    weights = Weights.random(every_network, seed=2)
    modules = {part.name: pytorch.build(part, weights) for part in every_network.parts()}
    back = Weights.from_pytorch(every_network, {name: module.state_dict() for name, module in modules.items()})
    assert [(name, a.tobytes()) for name, a in back.items()] == [(n, a.tobytes()) for n, a in weights.items()]


@pytest.mark.parametrize(("cell", "order"), [("gru", ("_z", "_r", "_n")), ("lstm", ("_i", "_g", "_f", "_o"))])
def test_a_swapped_gate_is_noticed(cell, order, make_spec, padded, assert_same, monkeypatch):
    spec = make_spec(cell=cell)
    (part,) = spec.parts()
    weights, inputs = Weights.random(spec, seed=3), padded(part)
    expected = oracle.run(part, weights, inputs)
    assert_same(run(pytorch.build(part, weights), inputs), expected, inputs["lengths"])
    monkeypatch.setitem(layout._ORDER, cell, order)
    module = pytorch.build(part, weights)
    back = Weights.from_pytorch(spec, {"model": module.state_dict()})
    assert all(np.array_equal(back[name], weights[name]) for name in weights)  # a round trip sees nothing
    with pytest.raises(AssertionError, match="output: the largest difference"):
        assert_same(run(module, inputs), expected, inputs["lengths"])


@pytest.mark.parametrize(
    "fault",
    [{"lengths": np.full(5, 4)}, {"h_0": np.zeros((4, 5, 4), np.float32)}],
    ids=["lengths", "h_0"],
)
def test_an_input_that_is_ignored_is_noticed(fault, make_spec, padded, assert_same):
    spec = make_spec(cell="gru", initial_state=True)
    weights, (part,) = Weights.random(spec, seed=3), spec.parts()
    inputs = padded(part)
    expected = oracle.run(part, weights, inputs)
    with pytest.raises(AssertionError, match="output: the largest difference"):
        assert_same(run(pytorch.build(part, weights), {**inputs, **fault}), expected, inputs["lengths"])


def test_a_bias_at_padded_steps_is_noticed(make_spec, padded, assert_same):
    spec = make_spec()
    weights, (part,) = Weights.random(spec, seed=3), spec.parts()
    inputs = padded(part)
    expected = oracle.run(part, weights, inputs)
    found = run(pytorch.build(part, weights), inputs)
    found["output"][2, 1:] += 1e-7
    with pytest.raises(AssertionError, match="output: not zero at padded steps"):
        assert_same(found, expected, inputs["lengths"])


def test_what_training_moves_is_in_the_neutral_weights(every_cell, make_spec, padded, assert_same):
    spec = make_spec(**every_cell, output="none")
    (part,) = spec.parts()
    torch.manual_seed(0)
    module = pytorch.build(part)
    inputs = padded(part)
    tensors = [torch.tensor(array) for array in inputs.values()]
    tensors[0][torch.arange(4) >= tensors[1][:, None]] = torch.nan  # padding must not reach a gradient either
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    losses = []
    for _ in range(10):
        loss = ((module(*tensors)[0] - 0.5) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    weights = Weights.from_pytorch(spec, {"model": module.state_dict()})
    assert_same(run(module, inputs), oracle.run(part, weights, inputs), inputs["lengths"])


def test_tells_an_exporter_what_goes_in_and_comes_out(make_spec):
    spec = make_spec(initial_state=True)
    (part,) = spec.parts()
    module = pytorch.build(part)
    assert module.input_signature() == list(part.inputs)
    assert module.output_names() == ["output", "h_T", "c_T"]


def test_a_reset_before_gru_describes_itself(make_spec):
    spec = make_spec(cell="gru", reset_gate="before", num_layers=1)
    (part,) = spec.parts()
    weights = Weights.random(spec, seed=4)
    module = pytorch.build(part, weights)
    assert isinstance(module.recurrent, torch.nn.ModuleList)
    (layer,) = module.recurrent
    assert isinstance(layer, ResetBeforeGRU)
    description = layer.recurrent_description()
    directions = description.pop("directions")
    assert description == {
        "cell": "gru",
        "reset_after": False,
        "hidden_size": 4,
        "gate_order": "rzn",
        "activations": ["Sigmoid", "Tanh"],
        "batch_first": True,
    }
    assert [{name: tuple(p.shape) for name, p in d.items()} for d in directions] == [
        {"W_hx": (12, 3), "W_hh": (12, 4), "b_h": (12,)}
    ] * 2
    assert np.array_equal(directions[1]["b_h"][4:8].numpy(force=True), weights["model.layers.0.backward.b_h_z"])


def test_refuses_the_state_of_another_module(make_spec):
    spec = make_spec()
    state = pytorch.build(make_spec(num_hidden_units=6).parts()[0]).state_dict()
    with pytest.raises(WeightsError, match=r"'head.weight' is float32 \[5, 12\]: expected float32 \[5, 8\]"):
        Weights.from_pytorch(spec, {"model": state})
    with pytest.raises(WeightsError, match="nothing is given for part 'model': given are encoder"):
        Weights.from_pytorch(spec, {"encoder": state})
