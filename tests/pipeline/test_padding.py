"""The padding checks, fed with a network that is right and with one for each way to be wrong."""

from __future__ import annotations

import numpy as np
import pytest

from seqport.pipeline import PipelineError
from seqport.pipeline.layout import Layout, Place
from seqport.pipeline.padding import TOLERANCES, check_padding, data_padded, nan_padded

LAYOUT = Layout(
    inputs={"x": Place(0, 1), "h_0": Place(1)},
    outputs={"output": Place(0, 1), "h_T": Place(1)},
    finals=frozenset({"h_T"}),
)
LENGTHS = np.array([2, 4, 1, 3, 4])


@pytest.fixture
def inputs() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(5, 4, 2))
    x[np.arange(4) >= LENGTHS[:, None]] = 0
    return {"x": x, "lengths": LENGTHS, "h_0": rng.normal(size=(1, 5, 2))}


def cumulated(inputs):
    """A network that adds up its inputs: what stands at padded steps is zero."""
    valid = (np.arange(inputs["x"].shape[1]) < inputs["lengths"][:, None])[:, :, None]
    h = inputs["h_0"][0][:, None] + np.cumsum(np.where(valid, inputs["x"], 0), axis=1)
    last = h[np.arange(len(h)), inputs["lengths"] - 1]
    return {"output": np.where(valid, h, 0), "h_T": last[None]}


def reads_the_last_step(inputs):
    outputs = cumulated(inputs)
    return {**outputs, "h_T": outputs["h_T"] + 1e-6 * inputs["x"][None, :, -1]}


def divides_by_the_axis(inputs):
    return {**cumulated(inputs), "h_T": cumulated(inputs)["h_T"] / inputs["x"].shape[1]}


def sees_its_neighbours(inputs):
    return {**cumulated(inputs), "h_T": cumulated(inputs)["h_T"] + inputs["h_0"].mean(axis=1, keepdims=True)}


def knows_its_place(inputs):
    return {**cumulated(inputs), "h_T": cumulated(inputs)["h_T"] + np.arange(len(inputs["lengths"]))[None, :, None]}


def leaves_the_padding(inputs):
    outputs = cumulated(inputs)
    padding = outputs["output"] == 0
    return {**outputs, "output": np.where(padding, inputs["x"], outputs["output"])}


@pytest.mark.parametrize(
    ("run", "fails"),
    [
        (cumulated, set()),
        # zero padding hides it among the same steps; alone, there is no padding to read
        (reads_the_last_step, {"garbage"}),
        (divides_by_the_axis, {"longer", "alone"}),
        (sees_its_neighbours, {"alone"}),
        (knows_its_place, {"alone", "permuted"}),
        (leaves_the_padding, {"garbage", "longer"}),
    ],
)
def test_each_leak_fails_the_checks_that_are_for_it(run, fails, inputs):
    checks = check_padding(run, inputs, LAYOUT)
    assert set(checks) == {"garbage", "longer", "alone", "permuted"} == set(TOLERANCES)
    assert {name for name, comparison in checks.items() if not comparison.ok} == fails


def test_a_shape_that_the_network_does_not_follow_is_a_difference(inputs):
    checks = check_padding(lambda batch: {**cumulated(batch), "output": np.zeros((5, 4, 2))}, inputs, LAYOUT)
    assert any("has the shape" in fault for fault in checks["alone"].faults)


def test_one_fixed_step_is_checked_alone_and_permuted():
    layout = Layout(inputs={"x": Place(0, 1)}, outputs={"output": Place(0)}, open_steps=False)
    inputs = {"x": np.arange(3.0).reshape(3, 1, 1), "lengths": np.ones(3, int)}
    checks = check_padding(lambda batch: {"output": batch["x"][:, 0]}, inputs, layout)
    assert set(checks) == {"alone", "permuted"} and all(comparison.ok for comparison in checks.values())


def test_a_batch_that_would_prove_nothing_is_refused(inputs):
    with pytest.raises(PipelineError, match="the batch has no padding, so it cannot show that padding does not matter"):
        check_padding(cumulated, {**inputs, "lengths": np.full(5, 4)}, LAYOUT)
    with pytest.raises(PipelineError, match="the batch has one row: a permuted batch needs at least two"):
        check_padding(cumulated, LAYOUT.take_inputs(inputs, np.array([0])), LAYOUT)


def test_the_padding_is_filled_and_nothing_else(inputs):
    padding = np.arange(4) >= LENGTHS[:, None]
    filled = nan_padded(inputs, LAYOUT)
    assert np.array_equal(np.isnan(filled["x"]).all(-1), padding)
    filled = data_padded(inputs, LAYOUT, np.random.default_rng(0))
    assert np.array_equal(filled["x"][~padding], inputs["x"][~padding]) and filled["x"][padding].all()
    assert np.array_equal(filled["h_0"], inputs["h_0"]) and not np.isnan(filled["x"]).any()


def test_tokens_in_the_padding_are_of_the_batch():
    layout = Layout(inputs={"ids": Place(0, 1)}, outputs={})
    inputs = {"ids": np.array([[7, 0, 0, 0], [9, 7, 0, 0]]), "lengths": np.array([1, 2])}
    filled = data_padded(inputs, layout, np.random.default_rng(0))["ids"]
    assert set(filled.ravel().tolist()) == {7, 9} and filled.dtype == inputs["ids"].dtype
    assert np.array_equal(nan_padded(inputs, layout)["ids"], inputs["ids"])
