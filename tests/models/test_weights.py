"""Weights: what they refuse, and their file."""

from __future__ import annotations

import re

import numpy as np
import pytest
from safetensors.numpy import save_file

from seqport.models import Weights, WeightsError


def test_a_file_there_and_back(every_network, tmp_path):
    weights = Weights.random(every_network, seed=1)
    named = Weights(every_network, weights, {"score": "0.93", "score name": "accuracy"})
    named.save(tmp_path / "weights.safetensors")
    back = Weights.load(tmp_path / "weights.safetensors", every_network)
    assert [(name, a.tobytes()) for name, a in back.items()] == [(n, a.tobytes()) for n, a in weights.items()]
    assert back.metadata == {"score": "0.93", "score name": "accuracy"}
    assert Weights.load(tmp_path / "weights.safetensors").spec == every_network


def test_the_same_weights_are_the_same_bytes(make_spec, tmp_path):
    weights = Weights(make_spec(), Weights.random(make_spec(), seed=1), dict.fromkeys("abcdefgh", "ü"))
    for name in ("first", "second"):
        weights.save(tmp_path / name)
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()
    header_size = int.from_bytes((tmp_path / "first").read_bytes()[:8], "little")
    assert header_size % 8 == 0
    assert Weights.load(tmp_path / "first").metadata == weights.metadata


def test_a_seed_gives_the_same_numbers_and_another_seed_others(make_spec):
    first, again, other = (Weights.random(make_spec(), seed) for seed in (1, 1, 2))
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not any(np.array_equal(first[name], other[name]) for name in first)


def test_weights_are_read_only_copies(make_spec):
    spec = make_spec()
    arrays = {name: array.copy() for name, array in Weights.random(spec, seed=1).items()}
    weights = Weights(spec, arrays)
    arrays["model.b_o"][:] = 0
    assert weights["model.b_o"].all()
    with pytest.raises(ValueError, match="read-only"):
        weights["model.b_o"][0] = 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model.b_o": None}, "array 'model.b_o' is missing: expected float32 [5]"),
        ({"model.b_x": np.zeros(5)}, "unknown array 'model.b_x': expected are model.layers.0.forward.W_hx_i, "),
        (
            {"model.W_oh": np.zeros((8, 5), np.float32)},
            "array 'model.W_oh' is float32 [8, 5]: expected float32 [5, 8]",
        ),
        ({"model.b_o": np.zeros(5)}, "array 'model.b_o' is float64 [5]: expected float32 [5]"),
    ],
    ids=["missing", "unknown", "shape", "dtype"],
)
def test_an_array_that_does_not_fit_is_named(change, message, make_spec):
    spec = make_spec()
    arrays = {**Weights.random(spec, seed=1), **change}
    with pytest.raises(WeightsError, match=f"^{re.escape(message)}"):
        Weights(spec, {name: array for name, array in arrays.items() if array is not None})


def test_a_file_of_another_specification_says_where_they_differ(make_spec, tmp_path):
    path = tmp_path / "weights.safetensors"
    Weights.random(make_spec(output="softmax"), seed=1).save(path)
    message = f"{path}: the file was made for another specification: output = 'softmax', expected 'none'"
    with pytest.raises(WeightsError, match=f"^{re.escape(message)}$"):
        Weights.load(path, make_spec())


def test_a_file_that_is_not_ours(tmp_path):
    with pytest.raises(WeightsError, match=r"nowhere cannot be read as a safetensors file: No such file"):
        Weights.load(tmp_path / "nowhere")
    (tmp_path / "text").write_text("no weights")
    with pytest.raises(WeightsError, match=r"text cannot be read as a safetensors file: "):
        Weights.load(tmp_path / "text")
    save_file({"a": np.zeros(1)}, tmp_path / "foreign")
    with pytest.raises(WeightsError, match=r"foreign: the file holds no specification: write it with Weights\.save"):
        Weights.load(tmp_path / "foreign")
