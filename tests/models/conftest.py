"""The matrix of specifications, padded batches for them, and the one comparison that the tests of models use."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import product
from typing import Any

import numpy as np
import pytest

from seqport.models import ModelSpec, Part

Arrays = dict[str, np.ndarray]

CELLS: dict[str, dict[str, Any]] = {
    "rnn-tanh": {"cell": "rnn"},
    "rnn-relu": {"cell": "rnn", "activation": "relu"},
    "gru-after": {"cell": "gru"},
    "gru-before": {"cell": "gru", "reset_gate": "before"},
    "lstm": {"cell": "lstm"},
}
STRATEGIES = ("one_to_one", "one_to_many", "many_to_one", "many_to_many", "encoder_decoder")
OUTPUTS = ("none", "softmax", "sigmoid")
SEQ_MAX_LEN, OUT_DIM = 4, 5


def specs() -> Iterator[tuple[str, ModelSpec, bool]]:
    """Every combination, and whether it is in the smaller matrix, which has one output function of three.

    The head is the same after every recurrent layer; the smaller matrix still pairs each output function with
    every other choice. Initial states alternate.
    """
    choices = product(CELLS, (1, 2), (False, True), STRATEGIES, ("ids", "x"), OUTPUTS)
    for cell, num_layers, bidirectional, strategy, source, output in choices:
        if bidirectional and strategy in ("one_to_many", "encoder_decoder"):
            continue
        tokens, feeds_itself = source == "ids", strategy == "one_to_many"
        turn = list(CELLS).index(cell) + num_layers + bidirectional + STRATEGIES.index(strategy) + tokens
        spec = ModelSpec(
            **CELLS[cell],
            input_dim=OUT_DIM if feeds_itself and not tokens else 3,
            num_hidden_units=4,
            out_dim=OUT_DIM,
            seq_max_len=1 if strategy == "one_to_one" else SEQ_MAX_LEN,
            strategy=strategy,
            output=output,
            num_layers=num_layers,
            bidirectional=bidirectional,
            vocab_size=None if not tokens else OUT_DIM if feeds_itself else 7,
            initial_state=turn % 2 == 0,
        )
        ways = "bi" if bidirectional else "uni"
        name = f"{cell}-{num_layers}-{ways}-{strategy}-{source}-{output}"
        yield name, spec, turn % 3 == OUTPUTS.index(output)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "every_spec" in metafunc.fixturenames:
        metafunc.parametrize("every_spec", [pytest.param(spec, id=name) for name, spec, _ in specs()])
    if "every_network" in metafunc.fixturenames:
        chosen = [pytest.param(spec, id=name) for name, spec, small in specs() if small]
        metafunc.parametrize("every_network", chosen)
    if "every_cell" in metafunc.fixturenames:
        metafunc.parametrize("every_cell", [pytest.param(choices, id=name) for name, choices in CELLS.items()])


@pytest.fixture
def make_spec() -> Callable[..., ModelSpec]:
    """A bidirectional tagger of two layers over features, but for what a test asks."""

    def make(**changes: Any) -> ModelSpec:
        values: dict[str, Any] = {
            "cell": "lstm",
            "input_dim": 3,
            "num_hidden_units": 4,
            "out_dim": 5,
            "seq_max_len": SEQ_MAX_LEN,
            "strategy": "many_to_many",
            "num_layers": 2,
            "bidirectional": True,
        }
        return ModelSpec(**(values | changes))

    return make


@pytest.fixture
def padded() -> Callable[..., Arrays]:
    """A zero-padded, unsorted batch with lengths 1 and T in it, for any part."""

    def make(part: Part, seed: int = 0) -> Arrays:
        rng = np.random.default_rng(seed)
        T = part.seq_max_len
        lengths = np.array([2, 4, 1, 3, 4]) if T > 1 else np.ones(5, int)
        state = (part.num_layers * part.num_directions, len(lengths), part.num_hidden_units)
        arrays: Arrays = {
            "ids": rng.integers(1, part.vocab_size or 2, (len(lengths), T)),
            "x": rng.normal(size=(len(lengths), T, part.input_dim)).astype(np.float32),
            "lengths": lengths,
            "h_0": rng.uniform(-1, 1, state).astype(np.float32),
            "c_0": rng.uniform(-1, 1, state).astype(np.float32),
        }
        padding = np.arange(T) >= lengths[:, None]
        arrays["ids"][padding] = 0
        arrays["x"][padding] = 0
        return {name: arrays[name] for name, _, _ in part.inputs}

    return make


@pytest.fixture
def polluted() -> Callable[[Arrays, Part], Arrays]:
    """The same batch with one more padded step where the axis is open, and with garbage in all padding."""

    def make(inputs: Arrays, part: Part) -> Arrays:
        name, axes, _ = part.inputs[0]
        source = inputs[name]
        extra = 1 if axes[1] == "seq" else 0
        source = np.pad(source, [(0, 0), (0, extra)] + [(0, 0)] * (source.ndim - 2))
        padding = np.arange(source.shape[1]) >= inputs["lengths"][:, None]
        source[padding] = np.nan if name == "x" else (part.vocab_size or 1) - 1
        return {**inputs, name: source}

    return make


@pytest.fixture
def assert_same() -> Callable[..., None]:
    """Compare valid steps and final states with a tolerance, padded steps with zero, and names and shapes."""

    def check(found: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray], lengths: np.ndarray) -> None:
        assert list(found) == list(expected)
        for name, array in expected.items():
            assert found[name].shape == array.shape, name
            difference = np.abs(found[name] - array).max()
            assert difference <= 1e-5, f"{name}: the largest difference is {difference:.3g}, allowed is 1e-05"
            if name == "output" and array.ndim == 3:
                padding = np.arange(array.shape[1]) >= lengths[:, None]
                assert not found[name][padding].any(), "output: not zero at padded steps"

    return check


@pytest.fixture
def trimmed() -> Callable[[Mapping[str, np.ndarray], Part], Arrays]:
    """Outputs without the step that `polluted` adds, after a look that it is zero."""

    def trim(outputs: Mapping[str, np.ndarray], part: Part) -> Arrays:
        if "output" not in outputs or outputs["output"].ndim < 3:
            return dict(outputs)
        assert not outputs["output"][:, part.seq_max_len :].any()
        return {**outputs, "output": outputs["output"][:, : part.seq_max_len]}

    return trim
