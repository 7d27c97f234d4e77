"""The trainer learns, the same each time; the committed weights give the score that they claim."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from seqport.models import Weights, zoo
from seqport.models.zoo import train as trainer
from seqport.models.zoo.score import evaluate
from seqport.models.zoo.task import Task


def small(task: Task, epochs: int = 1) -> Task:
    """The task with few rows, learned from and tested on, and few epochs."""
    rows = task.load().train.take(slice(0, 192))
    data = zoo.Dataset(rows, rows.take(slice(0, 32)))
    return replace(task, load=lambda: data, recipe=zoo.Recipe(epochs, batch_size=32))


@pytest.mark.parametrize("name", zoo.names())
def test_an_epoch_lowers_the_loss(name: str):
    task = small(zoo.get(name), epochs=2)
    losses: list[float] = []
    trainer.fit(task, task.load().train, task.recipe, lambda _epoch, _epochs, loss: losses.append(loss))
    assert losses[1] < losses[0]


def test_training_is_seeded_and_leaves_the_callers_random_numbers_alone():
    task = small(zoo.get("forecast"))
    rows = task.load().train
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first, again = (trainer.fit(task, rows, task.recipe) for _ in range(2))
    other = trainer.fit(task, rows, replace(task.recipe, seed=1))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not np.array_equal(first["model.W_oh"], other["model.W_oh"])


def test_train_says_what_it_measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture):
    task = small(zoo.get("digits"))
    monkeypatch.setattr(trainer, "get", lambda _: task)
    monkeypatch.setattr(trainer, "weights_path", lambda name: tmp_path / f"{name}.safetensors")
    trainer.main(["digits"])
    weights = Weights.load(tmp_path / "digits.safetensors", task.spec)
    assert f"accuracy {weights.metadata['score']}" in capsys.readouterr().out
    result = evaluate(task, task.load().test, trainer.pytorch_runs(weights))
    assert weights.metadata["score"] == repr(result.score)


@pytest.mark.parametrize("name", zoo.names())
def test_committed_weights_are_of_todays_task(name: str):
    task, metadata = zoo.get(name), zoo.load_weights(name).metadata
    assert Weights.load(zoo.weights_path(name)).spec == task.spec
    assert metadata["score_name"] == task.score_name
    assert metadata["source"] == task.source
    assert (metadata["epochs"], metadata["seed"]) == (str(task.recipe.epochs), str(task.recipe.seed))


@pytest.mark.parametrize("name", zoo.names())
def test_committed_scores_are_reproduced(name: str):
    task, weights = zoo.get(name), zoo.load_weights(name)
    result = evaluate(task, task.load().test, trainer.pytorch_runs(weights))
    claimed = float(weights.metadata["score"])
    if weights.metadata["packages"] == trainer.packages(task):
        assert result.score == claimed
        # ten times what float32 runtimes differ by: no answer hangs in the balance
        assert result.margin > 1e-5
    else:
        # another version of the data, by a few words: nearly the same score
        assert result.score == pytest.approx(claimed, rel=0.05)
