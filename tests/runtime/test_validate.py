"""Every wrong input has its own error, said before ONNX Runtime sees it."""

from __future__ import annotations

import statistics
import time
import types
from typing import Any, cast

import numpy as np
import pytest

from seqport.runtime import (
    EmptyBatchError,
    InputDtypeError,
    InputError,
    InputNameError,
    InputRankError,
    InputSizeError,
    InputValueError,
    LengthsError,
    Session,
    TensorInfo,
    validate,
)
from seqport.runtime.artifact import SequenceInfo
from seqport.runtime.validate import Checker, InputRule

X = np.ones((2, 5, 3), np.float32)
LENGTHS = np.array([5, 2])


def test_what_is_taken_for_a_mask_holds_zeros_and_ones() -> None:
    for dtype in ("int64", "float32"):
        rules = [InputRule.of(TensorInfo("mask", dtype, ("batch", "seq")))]
        check = Checker(rules, zeros_and_ones=["mask"])
        good = np.array([[1, 0, 1], [0, 0, 0]], dtype)
        assert check({"mask": good})["mask"] is good
        good[1, 2] = 2
        with pytest.raises(InputValueError, match=r"'mask' holds 2(\.0)? at \[1, 2\], expected 0 or 1: .* for a mask"):
            check({"mask": good})
    with pytest.raises(InputValueError, match=r"'mask' holds nan at \[0, 0\]"):
        check({"mask": np.full((1, 1), np.nan, np.float32)})


def test_lengths_of_floats() -> None:
    rules = [InputRule.of(TensorInfo("x", "float32", ("batch", "seq", 3)))]
    rules.append(InputRule.of(TensorInfo("lengths", "float32", ("batch",))))
    check = Checker(rules, [SequenceInfo("seq", "batch", "lengths", {"x": 1}, {})])
    check({"x": X, "lengths": np.array([5, 2], np.float32)})
    for lengths, said in ((np.nan, "nan"), (0.5, "0.5"), (6, "6.0")):
        with pytest.raises(LengthsError, match=f"'lengths' row 1 is {said}, expected 1 to 5"):
            check({"x": X, "lengths": np.array([5, lengths], np.float32)})


@pytest.fixture
def session(artifact) -> Session:
    """A model that must never be reached: every input here is wrong."""
    session = Session(artifact(), "cpu")
    reached = types.SimpleNamespace(run=lambda *_: pytest.fail("ONNX Runtime saw it"))
    session._model.session = cast(Any, reached)
    return session


@pytest.mark.parametrize(
    ("inputs", "error", "match"),
    [
        ({"x": X}, InputNameError, r"input 'lengths' missing: 'x' came, expected 'x', 'lengths'"),
        ({}, InputNameError, r"input 'lengths', 'x' missing: nothing came"),
        ({"x": X, "lengths": LENGTHS, "mask": X}, InputNameError, r"input 'mask' unknown: .* expected 'x', 'lengths'$"),
        ({"X": X, "lengths": LENGTHS}, InputNameError, r"input 'x' missing and 'X' unknown"),
        ([X, LENGTHS], InputNameError, r"the inputs came as list: give a dict of 'lengths', 'x' to arrays"),
        ({"x": X.astype(np.float64), "lengths": LENGTHS}, InputDtypeError, r"'x' came as float64, expected float32"),
        ({"x": X.astype(">f4"), "lengths": LENGTHS}, InputDtypeError, r"'x' came as >f4, expected float32"),
        ({"x": X, "lengths": LENGTHS.astype(np.int32)}, InputDtypeError, r"'lengths' came as int32, expected int64"),
        (
            {"x": X[0], "lengths": LENGTHS},
            InputRankError,
            r"'x' has 2 axes, \[5, 3\], expected 3, \[batch, seq, 3\]; a ",
        ),
        ({"x": X[None], "lengths": LENGTHS}, InputRankError, r"'x' has 4 axes, \[1, 2, 5, 3\], expected 3, .*3\]$"),
        (
            {"x": X[..., :2], "lengths": LENGTHS},
            InputSizeError,
            r"\[2, 5, 2\].* fixed to 3 in the file, and 2 came",
        ),
        (
            {"x": X, "lengths": np.array([1])},
            InputSizeError,
            r"axis 'batch' is 1 here and 2 in input 'x', but",
        ),
        (
            {"x": X, "lengths": np.array([5, 0])},
            LengthsError,
            r"row 1 is 0, expected 1 to 5, .*'x': leave out",
        ),
        ({"x": X, "lengths": np.array([-3, 1])}, LengthsError, r"'lengths' row 0 is -3, expected 1 to 5"),
        (
            {"x": X, "lengths": np.array([5, 6])},
            LengthsError,
            r"row 1 is 6, expected 1 to 5, .*cannot exceed",
        ),
        (
            {"x": X[:0], "lengths": LENGTHS[:0]},
            EmptyBatchError,
            r"has the shape \[0, 5, 3\]: axis 'batch' is empty",
        ),
        ({"x": X[:, :0], "lengths": LENGTHS}, EmptyBatchError, r"axis 'seq' is empty, so there is nothing to compute"),
    ],
)
def test_wrong_input(session, inputs: Any, error: type[InputError], match: str) -> None:
    with pytest.raises(error, match=match) as caught:
        session.run(inputs)
    assert type(caught.value) is error


def test_a_row_far_down_is_named() -> None:
    """Many rows take another way than few."""
    checker = Checker(
        [
            InputRule("x", np.dtype("float32"), ("batch", "seq")),
            InputRule("lengths", np.dtype("int64"), ("batch",)),
        ],
        [SequenceInfo("seq", "batch", "lengths", {"x": 1}, {})],
    )
    x, lengths = np.ones((100, 7), np.float32), np.full(100, 7)
    assert checker({"x": x, "lengths": lengths})["x"] is x
    for wrong in (0, 8, -1):
        lengths[70] = wrong
        with pytest.raises(LengthsError, match=f"row 70 is {wrong}, expected 1 to 7"):
            checker({"x": x, "lengths": lengths})


def test_one_name_on_two_axes_of_one_input() -> None:
    checker = Checker([InputRule.of(TensorInfo("square", "float32", ("n", "n")))])
    checker({"square": np.ones((3, 3), np.float32)})
    with pytest.raises(InputSizeError, match="axis 'n' is 2 here and 3 on another of its axes"):
        checker({"square": np.ones((3, 2), np.float32)})


@pytest.mark.parametrize(
    ("value", "dtype", "expected"),
    [
        ([1, 2], "float32", [1, 2]),
        ([1.0, 2.0], "int64", [1, 2]),
        ([0.1], "float32", [np.float32(0.1)]),  # the only rounding: a Python float has no precision of its own
        ([float("nan"), float("inf")], "float32", [np.nan, np.inf]),
        ([True, False], "bool", [True, False]),
        ([2**24], "float32", [2**24]),
        ([[1], [2]], "int32", [[1], [2]]),
        ((1, 2), "uint8", [1, 2]),
        (7, "int64", 7),
        ([], "float32", []),
    ],
)
def test_python_values_become_the_dtype(value, dtype, expected) -> None:
    array = Checker([InputRule("v", np.dtype(dtype), None)])({"v": value})["v"]
    assert array.dtype == dtype
    np.testing.assert_array_equal(array, np.array(expected, dtype))


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        ([1.5], "int64"),
        ([300], "uint8"),
        ([-1], "uint64"),
        ([2**63], "int64"),
        ([2**24 + 1], "float32"),
        ([2**53 + 1], "float64"),
        ([2**80], "int64"),
        ([1e300], "float32"),
        ([float("nan")], "int64"),
        ([2], "bool"),
        (["1"], "int64"),
        ([None], "float32"),
    ],
)
def test_python_values_that_would_change(value, dtype) -> None:
    with pytest.raises(InputDtypeError, match=rf"input 'v' came as .*expected .*{dtype}"):
        Checker([InputRule("v", np.dtype(dtype), None)])({"v": value})


@pytest.mark.parametrize(
    "value", [np.float64(1), [np.float64(1)], [np.ones(2)], (np.ones(2),)], ids=["scalar", "scalars", "list", "tuple"]
)
def test_arrays_in_lists_are_still_arrays(value) -> None:
    with pytest.raises(InputDtypeError, match="came as float64, expected float32: arrays are not cast silently"):
        Checker([InputRule("v", np.dtype("float32"), None)])({"v": value})


def test_ragged_lists_point_to_predict() -> None:
    with pytest.raises(InputRankError, match=r"nested lists of different lengths.*let Session\.predict do both"):
        Checker([InputRule("v", np.dtype("float32"), None)])({"v": [[1], [2, 3]]})


def test_a_tensor_that_numpy_cannot_read() -> None:
    class OnGpu:
        def __array__(self, dtype=None, copy=None):
            raise TypeError("copy the tensor to host memory first")

    with pytest.raises(InputDtypeError, match=r"came as OnGpu, which NumPy cannot read \(copy the tensor to host"):
        Checker([InputRule("v", np.dtype("float32"), None)])({"v": OnGpu()})


def test_a_good_request_costs_little(artifact) -> None:
    """The whole of Session.run beyond ONNX Runtime's own, at one row of one step."""
    session = Session(artifact("lstm", states=True), "cpu")
    state = np.zeros((1, 1, 4), np.float32)
    inputs = {"x": X[:1, :1], "lengths": np.array([1]), "h_0": state, "c_0": state}
    ours, theirs = [], []
    for _ in range(2000):  # interleaved, so that a busy machine slows both
        start = time.perf_counter_ns()
        session._model.session.run(None, inputs)
        between = time.perf_counter_ns()
        session.run(inputs)
        ours.append(time.perf_counter_ns() - between)
        theirs.append(between - start)
    extra = (statistics.median(ours) - statistics.median(theirs)) / 1e3
    assert extra <= 20, f"Session.run adds {extra:.1f} µs"


def test_after_a_good_request_a_bad_one_is_refused_all_the_same(artifact) -> None:
    """Names, types and shapes that went through are remembered; whatever differs is checked as at first."""
    check = Session(artifact(), "cpu")._check
    good = {"x": X, "lengths": LENGTHS}
    for _ in range(2):
        feed = check(good)
        assert feed is not good
        assert all(feed[name] is array for name, array in good.items())
    assert check({"lengths": LENGTHS, "x": X}).keys() == {"x", "lengths"}, "in another order"
    for wrong, error in (
        ({"lengths": np.array([6, 1])}, LengthsError),
        ({"lengths": np.array([0, 1])}, LengthsError),
        ({"lengths": LENGTHS.astype(np.int32)}, InputDtypeError),
        ({"x": X.astype(np.float64)}, InputDtypeError),
        ({"x": X[:1]}, InputSizeError),
        ({"x": X[..., :2]}, InputSizeError),
        ({"x": X[0]}, InputRankError),
        ({"x": X.T}, InputSizeError),
        ({"mask": X}, InputNameError),
    ):
        with pytest.raises(error):
            check({**good, **wrong})
        check(good)
    with pytest.raises(InputNameError):
        check({"x": X, "length": LENGTHS})
    with pytest.raises(InputNameError):
        check({"x": X})
    np.testing.assert_array_equal(check({"x": X.tolist(), "lengths": [5, 2]})["x"], X)


def test_not_every_shape_is_remembered(artifact, monkeypatch) -> None:
    monkeypatch.setattr(validate, "_REMEMBERED", 3)
    check = Session(artifact(), "cpu")._check
    for steps in (5, 6, 7, 8, 9, 5):
        assert check({"x": np.ones((2, steps, 3), np.float32), "lengths": LENGTHS})["x"].shape[1] == steps
    assert len(check._right) == 3
