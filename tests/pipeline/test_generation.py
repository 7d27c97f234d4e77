"""The zoo's two kinds of networks that write: `Session.generate` on their exports gives what they were trained to."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from seqport.models import zoo
from seqport.models.zoo.task import END, START
from seqport.pipeline.build import artifact_path
from seqport.runtime import Session

FRAMEWORKS = ("pytorch", "keras")


def _sessions(folder: Path, name: str, framework: str) -> list[Session]:
    return [Session(artifact_path(folder, name, part, framework), "cpu") for part in zoo.get(name).spec.parts()]


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_numbers_in_words_become_their_digits(folder: Path, framework: str) -> None:
    task, (encoder, decoder) = zoo.get("numbers"), _sessions(folder, "numbers", framework)
    said = ["seven", "forty two", "nine hundred and six", "twelve thousand three hundred and forty five"]
    assert task.vocabulary is not None
    inputs = [np.array(task.vocabulary.encode(words.split()), np.int64) for words in said]
    start, end = task.answers.index(START), task.answers.index(END)
    rows = decoder.generate(start, encoder=encoder, inputs=inputs, stop=end, max_steps=7)
    written = ["".join(task.answers[token] for token in row) for row in rows]
    assert written == ["7", "42", "906", "12345"]
    drawn = decoder.generate(start, encoder=encoder, inputs=inputs, stop=end, max_steps=7, temperature=0.1, seed=0)
    assert ["".join(task.answers[token] for token in row) for row in drawn] == written, "it is sure of each digit"


def test_words_are_drawn_alike_from_either_framework(folder: Path) -> None:
    task = zoo.get("generator")
    end = task.answers.index(END)
    first = np.repeat(np.arange(26), 4)
    drawn = [
        session.generate(first, stop=end, max_steps=14, temperature=0.8, top_p=0.95, seed=2, batch_size=30)
        for framework in FRAMEWORKS
        for session in _sessions(folder, "generator", framework)
    ]
    words = [
        [task.answers[f] + "".join(task.answers[t] for t in row) for f, row in zip(first, rows, strict=True)]
        for rows in drawn
    ]
    assert words[0] == words[1]
    assert len(set(words[0])) > 90 and 4 < np.mean([len(word) for word in words[0]]) < 11
