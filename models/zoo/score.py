"""From outputs to answers and a score, in NumPy alone: the same code judges every framework and runtime.

Answers are discrete (a class, a break, a token, a whole step of a unit), so that two runtimes either agree
or do not. Float32 runtimes differ by about 1e-6, and a decision that hangs by less could fall either way;
`Result.margin` says how much the closest one hangs by, and the weights in the zoo keep it well above.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from seqport.models.zoo.task import END, PADDING, START, STATES, Split, Task

# One part of a model in some framework: its named inputs to its named outputs.
Run = Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray]]


class Decisions(NamedTuple):
    """What was chosen, and how far each choice is from another one, in the model's output."""

    choices: np.ndarray  # int64
    margins: np.ndarray


@dataclass(frozen=True)
class Result:
    """The answers to a split, their score, and the margin of the closest decision among them.

    Predictions are int64 and 0 at padded steps: classes [batch], tokens [batch, seq], breaks [batch, seq, 1]
    or steps of the task's unit [batch, out_dim].
    """

    predictions: np.ndarray
    score: float
    margin: float


def evaluate(task: Task, split: Split, runs: Mapping[str, Run]) -> Result:
    """Answer a split and score the answers.

    Args:
        task: what is answered.
        split: the rows, `task.load().test` for the score that counts.
        runs: one callable for each part of the task's spec, by the part's name.
    """
    truth = _truth(task, split)
    if task.spec.strategy == "encoder_decoder":
        decisions = generate(task, split.inputs, runs, steps=truth.shape[1])
        counts = decisions.choices != PADDING
    else:
        decisions = decide(task, runs["model"](split.inputs)["output"])
        counts = _counts(task, split, truth)
    predictions = np.where(counts, decisions.choices, 0)
    return Result(predictions, _score(task, predictions, truth, counts), float(decisions.margins[counts].min()))


def decide(task: Task, outputs: np.ndarray) -> Decisions:
    """The answers that outputs stand for."""
    if task.spec.output == "softmax":
        second, first = np.moveaxis(np.partition(outputs, -2)[..., -2:], -1, 0)
        return Decisions(outputs.argmax(-1), first - second)
    if task.spec.output == "sigmoid":
        return Decisions((outputs > 0.5).astype(np.int64), np.abs(outputs - 0.5))
    unit = task.unit
    if unit is None:
        raise ValueError(f"task {task.name!r} is a regression without a unit to answer in")
    steps = unit.in_steps(outputs)
    whole = np.rint(steps)
    return Decisions(whole.astype(np.int64), (0.5 - np.abs(steps - whole)) * unit.step / unit.scale)


def generate(task: Task, inputs: Mapping[str, np.ndarray], runs: Mapping[str, Run], *, steps: int) -> Decisions:
    """Write tokens greedily, one step at a time: every choice and state goes back in.

    Args:
        task: one_to_many, which starts from the first token of each row and its initial state, or
            encoder_decoder, which starts from the start token and the state that the encoder ends in.
        inputs: as a split has them.
        runs: one callable for each part, by name.
        steps: how many tokens to write at most.

    Returns:
        The tokens [batch, steps], padding after the end token.
    """
    if task.spec.strategy == "encoder_decoder":
        run, states = runs["decoder"], _carried(runs["encoder"](inputs))
        token = np.full(len(inputs["lengths"]), task.answers.index(START), np.int64)
    else:
        run, states = runs["model"], {name: inputs[name] for name in STATES if name in inputs}
        token = inputs["ids"][:, 0]
    ones = np.ones(len(token), np.int64)
    choices = np.full((len(token), steps), PADDING, np.int64)
    margins = np.full((len(token), steps), np.inf)
    writing = ones > 0  # [batch]; rows that are done still run along, and what they say is not kept
    for step in range(steps):
        outputs = run({"ids": token[:, None], "lengths": ones, **states})
        decisions = decide(task, outputs["output"][:, 0])
        token, states = decisions.choices, _carried(outputs)
        choices[writing, step] = token[writing]
        margins[writing, step] = decisions.margins[writing]
        writing = writing & (token != task.answers.index(END))
        if not writing.any():
            break
    return Decisions(choices, margins)


def _carried(outputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The final states, as the initial states of the next call."""
    return {name: outputs[name[0] + "_T"] for name in STATES if name[0] + "_T" in outputs}


def _truth(task: Task, split: Split) -> np.ndarray:
    """The targets as predictions are: discrete."""
    return split.targets if task.spec.output == "softmax" else decide(task, split.targets).choices


def _counts(task: Task, split: Split, truth: np.ndarray) -> np.ndarray:
    """Which predictions count: those at real steps, where there is one a step."""
    if not task.spec.parts()[-1].every_step:
        return np.ones(truth.shape, bool)
    real = np.arange(truth.shape[1]) < split.lengths[:, None]  # [batch, seq]
    return np.broadcast_to(real.reshape(*real.shape, *[1] * (truth.ndim - 2)), truth.shape)


def _score(task: Task, predictions: np.ndarray, truth: np.ndarray, counts: np.ndarray) -> float:
    if task.score_name == "exact match":
        return float((predictions == truth).reshape(len(truth), -1).all(1).mean())
    if task.score_name == "accuracy":
        return float((predictions == truth)[counts].mean())
    step = task.unit.step if task.unit else 1.0
    return float(np.abs(predictions - truth).mean() * step)
