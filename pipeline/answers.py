"""What a model answers to a whole test split, and what it writes by itself: the same from every runner."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from seqport.models.zoo import Split, Task
from seqport.models.zoo.score import Run, evaluate
from seqport.models.zoo.task import END, START
from seqport.pipeline.layout import describe
from seqport.runtime import generate

_GENERATE = ("one_to_many", "encoder_decoder")


@dataclass(frozen=True)
class Answers:
    """The answers of one runner to a task's test split.

    Attributes:
        predictions: discrete answers, 0 at padded steps.
        score: of the predictions, in the task's own measure.
        margin: how far the closest decision is from another answer, in the model's output.
        tokens: what the runtime's generation loop wrote, a row each; None where the task generates nothing.
    """

    predictions: np.ndarray
    score: float
    margin: float
    tokens: tuple[tuple[int, ...], ...] | None

    def same_predictions(self, other: Answers) -> bool:
        """Whether every answer is equal, which is more than an equal score."""
        return np.array_equal(self.predictions, other.predictions)


def answer(task: Task, split: Split, runs: Mapping[str, Run]) -> Answers:
    """Answer a split with one callable for each part of the task, by the part's name."""
    result = evaluate(task, split, runs)
    tokens = _written(task, split, runs) if task.spec.strategy in _GENERATE else None
    return Answers(result.predictions, result.score, result.margin, tokens)


def _written(task: Task, split: Split, runs: Mapping[str, Run]) -> tuple[tuple[int, ...], ...]:
    """Generate with the runtime's own loop, which knows no runtime: only the networks differ."""
    *encoders, last = task.spec.parts()
    description, stop = describe(last), task.answers.index(END)
    if encoders:
        states = generate.encoded(runs[encoders[0].name], description, dict(split.inputs))
        states = {name: state.astype(np.float32) for name, state in states.items()}  # the oracle's are float64
        first = np.full(len(split), task.answers.index(START), np.int64)
        steps = split.targets.shape[1]
    else:  # from each first token that the split has, once: what follows is the model's own
        states, steps = None, task.spec.seq_max_len
        first = np.unique(split.inputs["ids"][:, 0])
    rows = generate.greedy(runs[last.name], description, first, states, max_steps=steps, stop=stop)
    return tuple(tuple(row.tolist()) for row in rows)
