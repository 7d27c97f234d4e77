"""Padding must not matter: the same rows give the same answers, whatever stands around them.

The checks run a batch again in another form and compare valid steps, padded steps and final states with
the first run of the same callable, so that they need no reference and hold for any model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from seqport.pipeline.compare import Comparison, Tolerances, compare, merged
from seqport.pipeline.errors import PipelineError
from seqport.pipeline.layout import Arrays, Layout, padding_of

Run = Callable[[Arrays], Arrays]

# One runtime against itself. With the shape the same, even its rounding is the same; another number or order of
# rows may change the order of a sum, and that is all.
EXACT = Tolerances(valid=0.0, padded=0.0, final=0.0)
ROUNDED = Tolerances(valid=1e-5, padded=0.0, final=1e-5)
# The steps added to make the padding longer: more than any export was traced or probed with.
_MORE_STEPS = 25
# Rows that run alone: enough to meet every length of a small batch, few enough for a slow runtime.
_ALONE = 8


class _Trial(NamedTuple):
    run: Run
    inputs: Arrays
    base: Arrays  # what `run` gave for them
    layout: Layout
    rng: np.random.Generator

    @property
    def lengths(self) -> np.ndarray:
        return self.inputs[self.layout.lengths]


class _Pair(NamedTuple):
    found: Arrays
    expected: Arrays
    lengths: np.ndarray
    where: str = ""


def check_padding(run: Run, inputs: Arrays, layout: Layout, seed: int = 0) -> dict[str, Comparison]:
    """Run every check that the network's axes allow.

    Args:
        run: maps a batch's inputs to its outputs.
        inputs: a padded batch of rows of different lengths.
        layout: of the network.
        seed: of the garbage and the permutation.

    Returns:
        The comparison of each check: "garbage" in the padding, a "longer" padding, rows "alone", and the
        batch "permuted". Without the first two where the steps have one fixed size.

    Raises:
        PipelineError: the batch has no padding, or only one row, so that it would prove nothing.
    """
    if len(inputs[layout.lengths]) < 2:
        raise PipelineError("the batch has one row: a permuted batch needs at least two")
    if layout.open_steps and inputs[layout.lengths].min() == layout.steps(inputs):
        raise PipelineError("the batch has no padding, so it cannot show that padding does not matter")
    trial = _Trial(run, inputs, run(inputs), layout, np.random.default_rng(seed))
    return {
        name: merged(
            compare(pair.found, pair.expected, layout, pair.lengths, check.tolerances, where=pair.where)
            for pair in check.pairs(trial)
        )
        for name, check in _CHECKS.items()
        if layout.open_steps or not check.needs_padding
    }


def nan_padded(inputs: Arrays, layout: Layout) -> dict[str, np.ndarray]:
    """The batch with NaN in the padding of floats; integers have none and stay."""
    filled = dict(inputs)
    for name, place in layout.inputs.items():
        if inputs[name].dtype.kind == "f":
            padding = padding_of(inputs[name], place, inputs[layout.lengths])
            filled[name] = np.where(padding, np.array(np.nan, inputs[name].dtype), inputs[name])
    return filled


def data_padded(inputs: Arrays, layout: Layout, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """The batch with values from elsewhere in it in the padding: real tokens, real features.

    A runtime may turn a NaN into something harmless on its way (ONNX Runtime's GRU clips it); data it cannot.
    """
    filled = dict(inputs)
    for name, place in layout.inputs.items():
        padding = padding_of(inputs[name], place, inputs[layout.lengths])
        filled[name] = np.where(padding, rng.choice(inputs[name][~padding], padding.shape), inputs[name])
    return filled


def _garbage(trial: _Trial) -> Iterator[_Pair]:
    for inputs in nan_padded(trial.inputs, trial.layout), data_padded(trial.inputs, trial.layout, trial.rng):
        yield _Pair(trial.run(inputs), trial.base, trial.lengths)


def _longer(trial: _Trial) -> Iterator[_Pair]:
    """The new steps hold garbage too."""
    layout, steps = trial.layout, trial.layout.steps(trial.inputs)
    found = trial.run(data_padded(layout.resize_inputs(trial.inputs, steps + _MORE_STEPS), layout, trial.rng))
    yield _Pair(layout.cut_outputs(found, steps), trial.base, trial.lengths)


def _alone(trial: _Trial) -> Iterator[_Pair]:
    """Single rows, the shortest and the longest among them, cut to their length: no padding, no neighbours."""
    layout, by_length = trial.layout, np.argsort(trial.lengths, kind="stable")
    places = np.linspace(0, len(by_length) - 1, min(_ALONE, len(by_length))).round().astype(int)
    for row in by_length[places]:
        inputs = layout.take_inputs(trial.inputs, np.array([row]))
        expected = layout.take_outputs(trial.base, np.array([row]))
        lengths = inputs[layout.lengths]
        if layout.open_steps:
            inputs, expected = layout.resize_inputs(inputs, lengths[0]), layout.cut_outputs(expected, lengths[0])
        yield _Pair(trial.run(inputs), expected, lengths, where=f"row {row} alone")


def _permuted(trial: _Trial) -> Iterator[_Pair]:
    layout, order = trial.layout, trial.rng.permutation(len(trial.lengths))
    found = trial.run(layout.take_inputs(trial.inputs, order))
    yield _Pair(found, layout.take_outputs(trial.base, order), trial.lengths[order])


class _Check(NamedTuple):
    pairs: Callable[[_Trial], Iterator[_Pair]]
    tolerances: Tolerances
    needs_padding: bool


_CHECKS = {
    "garbage": _Check(_garbage, EXACT, needs_padding=True),
    "longer": _Check(_longer, ROUNDED, needs_padding=True),
    "alone": _Check(_alone, ROUNDED, needs_padding=False),
    "permuted": _Check(_permuted, ROUNDED, needs_padding=False),
}
TOLERANCES = {name: check.tolerances for name, check in _CHECKS.items()}
