"""Answers and scores from outputs whose right answer is known, and wrong outputs that must cost."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from seqport.models import zoo
from seqport.models.zoo.score import decide, evaluate, generate
from seqport.models.zoo.task import END, PADDING, Split, Task


def perfect(task: Task, split: Split) -> np.ndarray:
    """Outputs that mean the targets, with garbage where padding is."""
    if task.spec.output != "softmax":
        outputs = split.targets.copy()
    else:
        outputs = np.eye(task.spec.out_dim, dtype=np.float32)[split.targets]
    if task.spec.parts()[0].every_step:
        outputs[np.arange(outputs.shape[1]) >= split.lengths[:, None]] = 0.7
    return outputs


@pytest.mark.parametrize("name", [name for name in zoo.names() if name != "numbers"])
def test_right_outputs_score_best_and_wrong_ones_cost(name: str):
    task = zoo.get(name)
    split = task.load().test.take(slice(0, 100))
    outputs = perfect(task, split)
    best = evaluate(task, split, {"model": lambda _: {"output": outputs}})
    assert best.score == (0 if task.score_name == "mean absolute error" else 1)
    assert best.predictions.dtype == np.int64
    outputs[0, ...] = np.roll(outputs[0], 1) if task.spec.output == "softmax" else 1 - outputs[0]
    worse = evaluate(task, split, {"model": lambda _: {"output": outputs}})
    assert abs(worse.score - best.score) > 1e-4


def test_predictions_are_zero_at_padded_steps():
    task = zoo.get("generator")
    split = task.load().test.take(slice(0, 50))
    result = evaluate(task, split, {"model": lambda _: {"output": perfect(task, split)}})
    assert np.array_equal(result.predictions, split.targets)


def test_classes_and_their_margins():
    choices, margins = decide(zoo.get("digits"), np.array([[0.1, 0.7, 0.2], [0.4, 0.35, 0.25]]))
    assert choices.tolist() == [1, 0]
    assert margins == pytest.approx([0.5, 0.05])


def test_breaks_and_their_margins():
    choices, margins = decide(zoo.get("hyphenation"), np.array([[[0.2], [0.51]]]))
    assert choices.tolist() == [[[0], [1]]]
    assert margins[0, :, 0] == pytest.approx([0.3, 0.01])


def test_a_regression_answers_in_whole_steps():
    task = zoo.get("forecast")
    assert task.unit
    choices, margins = decide(task, task.unit.to_output(np.array([[70.2], [70.499]])))
    assert choices.tolist() == [[70], [70]]
    assert margins * task.unit.scale == pytest.approx(np.array([[0.3], [0.001]]), abs=1e-5)
    with pytest.raises(ValueError, match="'forecast' is a regression without a unit"):
        decide(replace(task, unit=None), np.zeros((1, 1)))


def test_the_error_is_in_the_unit():
    task = zoo.get("forecast")
    split = task.load().test
    assert task.unit
    outputs = split.targets + np.float32(2 / task.unit.scale)
    assert evaluate(task, split, {"model": lambda _: {"output": outputs}}).score == pytest.approx(2)


def spell(task: Task, text: str):
    """A decoder that writes `text`, keeping its place in the state and answering the token before."""
    tokens = [task.answers.index(token) for token in (*text, END)]

    def run(inputs):
        place = inputs["h_0"][0, :, 0].astype(int)
        if place[0] > 0 and place[0] <= len(tokens):
            assert inputs["ids"][0, 0] == tokens[place[0] - 1]  # its own output came back in
        assert inputs["ids"].shape == (len(place), 1) and (inputs["lengths"] == 1).all()
        wanted = np.array(tokens + tokens)[place]
        return {"output": np.eye(len(task.answers))[wanted][:, None], "h_T": inputs["h_0"] + 1, "c_T": inputs["c_0"]}

    return run


def test_generation_carries_state_and_stops_at_the_end():
    task = zoo.get("numbers")
    starts = {"h_T": np.array([[[0.0], [2.0], [0.0]]]), "c_T": np.zeros((1, 3, 1))}
    runs = {"encoder": lambda _: starts, "decoder": spell(task, "342")}
    written, margins = generate(task, {"lengths": np.ones(3, int)}, runs, steps=7)
    spelled = ["".join(task.answers[i] for i in row if i != PADDING) for row in written]
    assert spelled == ["342" + END, "2" + END, "342" + END]
    assert np.array_equal(np.isinf(margins), written == PADDING)


def test_exact_match_counts_whole_sequences():
    task = zoo.get("numbers")
    split = task.load().test.take(slice(0, 4))
    starts = {"h_T": np.zeros((1, 4, 1)), "c_T": np.zeros((1, 4, 1))}
    digits = [[task.answers.index(d) for d in (*text, END)] for text in ("123", "1", "12", "1234")]
    targets = np.array([[*row, *[PADDING] * (7 - len(row))] for row in digits])
    runs = {"encoder": lambda _: starts, "decoder": spell(task, "123")}
    assert evaluate(task, Split(split.inputs, targets), runs).score == 0.25


def test_generation_starts_from_the_first_letter():
    task = zoo.get("generator")
    inputs = task.load().test.take(slice(0, 2)).inputs
    fed = []

    def run(inputs):
        fed.append(inputs["ids"][:, 0])
        return {"output": np.eye(task.spec.out_dim)[[[3], [task.answers.index(END)]]], "h_T": inputs["h_0"] + 1}

    written, _ = generate(task, inputs, {"model": run}, steps=3)
    assert np.array_equal(fed[0], inputs["ids"][:, 0])
    assert written.tolist() == [[3, 3, 3], [task.answers.index(END), PADDING, PADDING]]
