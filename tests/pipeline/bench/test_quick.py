"""The quick form measures every key, and its bounds are kept or the command fails."""

from __future__ import annotations

import json
import math

import pytest

from seqport.pipeline.bench import quick
from seqport.pipeline.bench.quick import Measured, requirements
from seqport.pipeline.errors import PipelineError

NAMES = {
    *("ragged_b128_over_padded", "ragged_b128_over_packed", "ragged_b128_times_limit"),
    *("ragged_b64_t400_over_padded", "ragged_b64_t400_over_packed", "ragged_b64_t400_times_limit"),
    *("run_overhead_us", "run_overhead_percent", "predict_over_longest", "predict_over_buckets"),
    *("rnn_b32_over_pytorch", "rnn_b128_over_pytorch", "gru_b32_over_pytorch", "gru_b128_over_pytorch"),
}


def test_the_names_are_stable():
    assert set(quick.keys()) == NAMES


def test_every_key_is_measured(tmp_path):
    tiny = quick.keys(hidden=8, scale=0.06)
    steps: list[str] = []
    result = quick.measure(tiny, tmp_path, steps.append, seconds=0.0)
    assert not result.reasons, result.reasons
    assert set(result.values) == NAMES and len(steps) == len(quick.cases_of(tiny)) == 9
    for name, value in result.values.items():
        assert value is not None and math.isfinite(value), name
        low, high = (-1e5, 1e5) if name.startswith("run_overhead") else (1e-4, 1e4)
        assert low < value < high, name
    assert 0 <= result.foreign <= 1


def test_ratios_are_above_1_where_seqport_is_faster(outcome):
    keys = quick.keys()
    case = keys["ragged_b128_over_padded"].case
    timings = {"seqport": 2.0, "ONNX Runtime": 3.0, "PyTorch packed": 5.0, "PyTorch padded": 1.0}
    made = outcome(case, **timings, **{"sgemm (PyTorch)": 1.0, "sgemm (NumPy)": 1.6})
    assert keys["ragged_b128_over_padded"].value(made) == 1.5
    assert keys["ragged_b128_over_packed"].value(made) == 2.5
    assert keys["ragged_b128_times_limit"].value(made) == 2.0  # of the faster one, which bounds
    assert keys["rnn_b32_over_pytorch"].value(made) == 0.5
    assert keys["run_overhead_us"].value(made) == pytest.approx(-1000)
    assert keys["run_overhead_percent"].value(made) == pytest.approx(-100 / 3)


@pytest.mark.parametrize(
    ("bound", "said"),
    [
        ("run_overhead_us<=20", ""),
        ("run_overhead_us <= 3.5", "run_overhead_us is 4.0, required at most 3.5"),
        ("predict_over_longest>=-1", ""),
        ("predict_over_longest>=1.2", "predict_over_longest is 1.1, required at least 1.2"),
        ("rnn_b32_over_pytorch>=1", "rnn_b32_over_pytorch is None, required at least 1"),
    ],
)
def test_a_bound(bound, said):
    (one,) = requirements([bound], quick.keys())
    assert one.broken_by({"run_overhead_us": 4.0, "predict_over_longest": 1.1, "rnn_b32_over_pytorch": None}) == said


@pytest.mark.parametrize(
    ("bound", "said"),
    [
        ("run_overhead_us=20", r"--require 'run_overhead_us=20': expected KEY>=NUMBER or KEY<=NUMBER"),
        ("run_overhead>=20", r"there is no run_overhead, expected one of ragged_b128_over_padded, "),
    ],
)
def test_what_is_no_bound_is_refused(bound, said):
    with pytest.raises(PipelineError, match=said):
        requirements([bound], quick.keys())


@pytest.mark.parametrize(
    ("changed", "bounds", "code", "said"),
    [
        ({}, ["run_overhead_us<=20"], 0, ""),
        ({}, ["run_overhead_us<=20", "rnn_b32_over_pytorch>=3"], 1, "rnn_b32_over_pytorch is 2.0, required at least 3"),
        ({"rnn_b32_over_pytorch": None}, [], 1, "not measured: rnn_b32_over_pytorch"),
    ],
)
def test_the_command_prints_json_and_fails_where_a_bound_is_broken(
    seqport, tmp_path, strict_json, monkeypatch, changed, bounds, code, said
):
    values = {**dict.fromkeys(quick.keys(), 2.0), **changed}
    monkeypatch.setattr(quick, "measure", lambda *_, **__: Measured(values, ["a reason"], 0.0))
    options = [part for bound in bounds for part in ("--require", bound)]
    ended, out, err = seqport("bench", "quick", "--folder", tmp_path, *options)
    assert ended == code and strict_json(out) == values == json.loads(out)
    assert said in err and ("a reason" in err) == (None in values.values())


def test_a_busy_machine_is_said(seqport, tmp_path, monkeypatch):
    values: dict[str, float | None] = dict.fromkeys(quick.keys(), 2.0)
    monkeypatch.setattr(quick, "measure", lambda *_, **__: Measured(values, [], 0.4))
    code, _, err = seqport("bench", "quick", "--folder", tmp_path)
    assert code == 0 and "others took up to 40% of the machine meanwhile" in err
