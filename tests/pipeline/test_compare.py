"""The comparator, fed with wrong tensors: each must be seen, in its own view, with its size and place."""

from __future__ import annotations

from math import inf

import numpy as np
import pytest

from seqport.pipeline.compare import Comparison, Tolerances, assert_same, compare, failed, merged
from seqport.pipeline.layout import Layout, Place

LAYOUT = Layout(inputs={"x": Place(0, 1)}, outputs={"output": Place(0, 1), "h_T": Place(1)}, finals=frozenset({"h_T"}))
LENGTHS = np.array([2, 3, 1])
VALID, PADDED, STATE = (1, 2, 0), (2, 1, 3), (0, 2, 1)  # places in output, output, h_T


@pytest.fixture
def right() -> dict[str, np.ndarray]:
    """[batch 3, seq 3, 4] with zeros at padded steps, and [1, batch 3, 2]."""
    output = np.random.default_rng(0).normal(size=(3, 3, 4))
    output[np.arange(3) >= LENGTHS[:, None]] = 0
    return {"output": output, "h_T": np.random.default_rng(1).normal(size=(1, 3, 2))}


@pytest.fixture
def wrong(right):
    """The right outputs in float32, with one element changed."""

    def change(name: str = "", place: tuple[int, ...] = (), value: float = 0.0):
        found = {key: array.astype(np.float32) for key, array in right.items()}
        if name:
            found[name][place] += value
        return found

    return change


def test_equal_outputs_are_equal(right, wrong):
    comparison = compare(wrong(), right, LAYOUT, LENGTHS)
    assert comparison.ok and comparison.faults == ()
    assert set(comparison.views) == {"valid", "padded", "final"}
    assert_same(wrong(), right, LAYOUT, LENGTHS)


@pytest.mark.parametrize(
    ("view", "name", "place", "said"),
    [
        (
            "valid",
            "output",
            VALID,
            r"^valid steps differ by 0.25, allowed is 1e-05: output\[1, 2, 0\] is .*, expected ",
        ),
        (
            "padded",
            "output",
            PADDED,
            r"^padded steps differ by 0.25, allowed is 0: output\[2, 1, 3\] is 0.25, expected 0$",
        ),
        ("final", "h_T", STATE, r"^final states differ by 0.25, allowed is 1e-05: h_T\[0, 2, 1\] is .*, expected "),
    ],
)
def test_a_wrong_element_shows_in_its_own_view_alone(view, name, place, said, right, wrong):
    found = wrong(name, place, 0.25)
    comparison = compare(found, right, LAYOUT, LENGTHS)
    assert [key for key, worst in comparison.views.items() if worst.difference > 1e-5] == [view]
    with pytest.raises(AssertionError, match=said):
        assert_same(found, right, LAYOUT, LENGTHS)


def test_each_view_has_its_own_tolerance(right, wrong):
    loose = {"valid": Tolerances(valid=0.3), "padded": Tolerances(padded=0.3), "final": Tolerances(final=0.3)}
    for view, (name, place) in {
        "valid": ("output", VALID),
        "padded": ("output", PADDED),
        "final": ("h_T", STATE),
    }.items():
        for other, tolerances in loose.items():
            assert compare(wrong(name, place, 0.25), right, LAYOUT, LENGTHS, tolerances).ok == (view == other)


def test_no_default_is_wider_than_float32_runtimes_differ():
    assert max(Tolerances()) <= 1e-5


def test_padded_steps_are_exact_by_default(right, wrong):
    assert not compare(wrong("output", PADDED, 1e-30), right, LAYOUT, LENGTHS).ok


@pytest.mark.parametrize("value", [np.nan, inf])
def test_nan_and_infinity_are_infinitely_wrong_on_either_side(value, right, wrong):
    found = wrong("output", VALID, value)
    for one, other in ((found, right), (right, found), (found, found)):
        comparison = compare(one, other, LAYOUT, LENGTHS, Tolerances(1e9, 1e9, 1e9))
        assert comparison.views["valid"].difference == inf
        assert not comparison.ok


def test_another_shape_is_wrong_even_where_it_would_broadcast(right, wrong):
    found = {**wrong(), "h_T": wrong()["h_T"][:, :1]}
    with pytest.raises(
        AssertionError, match=r"final states differ by inf.*'h_T' has the shape \[1, 1, 2\], expected \[1, 3, 2\]"
    ):
        assert_same(found, right, LAYOUT, LENGTHS)


def test_outputs_must_be_those_expected(right, wrong):
    with pytest.raises(AssertionError, match=r"final states differ by inf.*'h_T' is missing"):
        assert_same({"output": wrong()["output"]}, right, LAYOUT, LENGTHS)
    with pytest.raises(AssertionError, match=r"valid steps differ by inf.*'c_T' was not expected"):
        assert_same({**wrong(), "c_T": wrong()["h_T"]}, right, LAYOUT, LENGTHS)


def test_the_place_is_said_of_the_largest_difference(right, wrong):
    found = wrong("output", VALID, 0.25)
    found["output"][0, 0, 0] -= 0.5
    comparison = compare(found, right, LAYOUT, LENGTHS, where="batch 3 × 3")
    assert comparison.views["valid"].difference == pytest.approx(0.5)
    assert comparison.views["valid"].where.startswith("batch 3 × 3: output[0, 0, 0] is ")


def test_an_output_without_steps_is_valid_unless_it_is_a_final_state():
    layout = Layout(inputs={}, outputs={"output": Place(0)})
    comparison = compare({"output": np.ones((3, 2))}, {"output": np.zeros((3, 2))}, layout, LENGTHS)
    assert {view: worst.difference for view, worst in comparison.views.items()} == {"valid": 1.0}


def test_the_worst_of_several(right, wrong):
    several = [
        compare(wrong(*change), right, LAYOUT, LENGTHS) for change in ((), ("output", VALID, 0.25), ("h_T", STATE, 1))
    ]
    both = merged(several)
    assert both.views["valid"] == several[1].views["valid"] and both.views["final"] == several[2].views["final"]
    assert len(both.faults) == 2
    assert isinstance(both, Comparison) and str(both).startswith(
        "valid steps differ by 0.25; padded steps differ by 0;"
    )


def test_nothing_at_all_fails_every_view_in_one_sentence():
    said = "valid steps, padded steps, final states differ by inf, allowed is 1e-05, 0, 1e-05: why"
    assert failed("why").faults == (said,)
