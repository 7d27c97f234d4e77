"""The grid is what it says, and everyone gets the same arrays."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from seqport.pipeline.bench import cases
from seqport.pipeline.bench.cases import BATCHES, FILLS, Case, Network, draw, draw_lengths, grid
from seqport.pipeline.errors import PipelineError

LSTM = Network("lstm", 64)


def test_the_grid_holds_every_combination_once_and_networks_together():
    found = grid()
    batches = [case for case in found if case.kind == "batch"]
    assert len(batches) == 3 * 3 * 4 * 3 * 2 and len(set(found)) == len(found)
    assert sum(case.kind == "stream" for case in found) == 9 and sum(case.kind == "list" for case in found) == 6
    changes = sum(one.network != other.network for one, other in pairwise(found))
    assert changes == len({case.network for case in found}) - 1


def test_a_part_of_the_grid():
    assert grid(["gru"], [256], [8], [0.6], ["bi"], ["batch"]) == [
        Case(Network("gru", 256, bidirectional=True), batch=8, fill=0.6)
    ]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"cells": ["lstm", "elman"]}, r"cells: elman is not in the grid, expected some of lstm, gru, rnn"),
        ({"sizes": [65]}, r"sizes: 65 is not in the grid, expected some of 64, 256, 1024"),
        ({"fills": []}, r"fills: nothing is not in the grid"),
    ],
)
def test_what_the_grid_does_not_have_is_refused(options, said):
    with pytest.raises(PipelineError, match=said):
        grid(**options)


@pytest.mark.parametrize("batch", [*BATCHES, 512])
@pytest.mark.parametrize("fill", [*FILLS, 0.5])
def test_lengths_have_the_fill_and_one_row_is_the_longest(batch, fill):
    lengths = draw_lengths(batch, 100, fill, np.random.default_rng(0))
    assert lengths.shape == (batch,) and lengths.min() >= 1
    assert abs(lengths.mean() / 100 - fill) < 0.02
    assert lengths.max() == (100 if batch > 1 else round(fill * 100))
    assert fill == 1 or batch == 1 or (np.diff(lengths) < 0).any()  # in no order


def test_low_fills_have_long_tails():
    rng = np.random.default_rng(0)
    low, middle = draw_lengths(512, 400, 0.2, rng), draw_lengths(512, 400, 0.6, rng)
    assert np.median(low) < 0.8 * low.mean() and abs(np.median(middle) / middle.mean() - 1) < 0.1


def test_arrays_are_the_same_everywhere_and_zero_in_the_padding():
    case = Case(LSTM, batch=8, steps=20, fill=0.6)
    one, other = draw(case), draw(case)
    assert (one.x == other.x).all() and (one.lengths == other.lengths).all()
    assert one.x.shape == (8, 20, cases.INPUT_DIM) and not one.x[~one.valid].any() and one.x[one.valid].all()
    assert one.valid.sum() == one.valid_steps == sum(map(len, one.items))


def test_names_tell_cases_apart():
    keys = [case.key for case in grid()]
    assert len(set(keys)) == len(keys)
    assert Case(Network("gru", 64, True), batch=8, fill=0.6).key == "batch gru-64-bi B=8 T=100 fill=0.6"
