"""What a run costs is learned from runs: whatever the machine does with padding, rows and steps."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from seqport.runtime.cost import RunCost, doublings

Law = Callable[[int, int, int], float]

# Seconds by rows, steps and valid steps: a kernel that computes padding, one that skips it, one that is all overhead.
LAWS: dict[str, Law] = {
    "padded": lambda rows, steps, _: 1e-4 + 1.6e-5 * steps + 4.4e-6 * rows * steps,
    "packed": lambda _, steps, valid: 2e-4 + 2e-5 * steps + 5e-6 * valid,
    "overhead": lambda rows, steps, _: 3e-5 + 3e-7 * steps + 1.5e-7 * rows * steps + 1e-6 * rows,
}
# A ragged batch, many short rows, one row, a full batch; none is among the runs that are learned from.
UNSEEN = [(64, 100, 3200), (100, 8, 700), (1, 60, 60), (128, 90, 128 * 88)]


def _taught(law: Law, noise: float = 0.0) -> RunCost:
    cost, random = RunCost(), np.random.default_rng(0)
    runs = [(4, 52, 204), (16, 100, 800), (24, 52, 24 * 50), (4, 5, 14), (4, 100, 390)]
    runs += [(128, steps, int(128 * steps * 0.97)) for steps in range(10, 100, 5)]
    for rows, steps, valid in runs:
        cost.observe(rows, steps, valid, law(rows, steps, valid) * np.exp(random.normal() * noise))
    return cost


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize(("noise", "within"), [(0.0, 0.2), (0.05, 0.45)])
def test_other_batches_are_foreseen(law, noise, within) -> None:
    cost = _taught(LAWS[law], noise)
    for batch in UNSEEN:
        assert cost.seconds(*batch) == pytest.approx(LAWS[law](*batch), rel=within), batch


def test_padding_is_told_from_valid_steps() -> None:
    """The ragged batch of one law takes half of what it takes in the other, with the same full batches."""
    padded, packed = (
        [float(_taught(LAWS[law]).seconds(64, 100, valid)) for valid in (1600, 6400)]
        for law in LAWS
        if law != "overhead"
    )
    assert padded[1] < 1.2 * padded[0]
    assert packed[1] > 2 * packed[0]


def test_no_coefficient_is_negative() -> None:
    """Though plain least squares would have some, and the others are fitted without those, not merely cut off."""
    cost, law = RunCost(), lambda rows, steps: 1e-3 + 1e-6 * rows * steps
    runs = [(4, 50), (4, 50), (8, 100), (16, 20), (32, 10), (64, 60), (100, 5), (2, 90)]
    for rows, steps in runs:
        cost.observe(rows, steps, rows * steps, law(rows, steps) * (0.8 if steps > 50 else 1.2))
    assert min(cost.coefficients()) >= 0
    for rows, steps in runs:
        assert cost.seconds(rows, steps, rows * steps) == pytest.approx(law(rows, steps), rel=0.25)


def test_a_number_of_rows_that_is_dear_is_found_so() -> None:
    cost = RunCost()
    law = LAWS["padded"]
    for _ in range(20):
        for rows in (8, 16, 32, 64, 128, 256):
            cost.observe(rows, 50, rows * 50, law(rows, 50, rows * 50) * (1.8 if rows > 128 else 1.0))
    ratio = [float(cost.seconds(rows, 50, rows * 50)) / law(rows, 50, rows * 50) for rows in (64, 128, 256)]
    assert ratio[2] > 1.35 * ratio[1] and ratio[2] > 1.35 * ratio[0]


def test_the_first_run_which_allocates_is_not_kept() -> None:
    warm, cold = RunCost(), RunCost()
    for cost, first in ((warm, 1e-3), (cold, 1.0)):
        cost.observe(4, 10, 40, first)
        for rows in (4, 8, 16):
            cost.observe(rows, 10, rows * 10, 1e-4 * rows)
    np.testing.assert_array_equal(warm.coefficients(), cold.coefficients())


def test_one_slow_run_does_not_overturn_what_was_learned() -> None:
    cost = _taught(LAWS["padded"])
    before = float(cost.seconds(64, 50, 3000))
    cost.observe(64, 50, 3000, 100 * before)
    for _ in range(8):  # so that it is solved anew
        cost.observe(128, 40, 5000, LAWS["padded"](128, 40, 5000))
    assert cost.seconds(64, 50, 3000) == pytest.approx(before, rel=0.25)


def test_what_changes_is_learned_anew() -> None:
    cost = RunCost()
    for times in (1, 3):
        for _ in range(75):
            for batch in UNSEEN:
                cost.observe(*batch, times * LAWS["padded"](*batch))
    assert cost.seconds(64, 100, 3200) == pytest.approx(3 * LAWS["padded"](64, 100, 3200), rel=0.25)


def test_nothing_is_known_before_some_runs() -> None:
    cost = RunCost()
    assert not cost.known and cost.seconds(2, 10, 20) > cost.seconds(1, 10, 10) > 0
    for rows in range(1, 6):
        cost.observe(rows, 10, rows * 10, 1e-3)
    assert cost.known


def test_a_clock_that_stood_still_teaches_nothing() -> None:
    cost = RunCost()
    for _ in range(5):
        cost.observe(1, 1, 1, 0.0)
    assert not cost.known


def test_doublings() -> None:
    assert doublings(np.array([1, 2, 3, 4, 5, 8, 9, 64, 65, 128])).tolist() == [0, 1, 2, 2, 3, 3, 4, 6, 7, 7]
