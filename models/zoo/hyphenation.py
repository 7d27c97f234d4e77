"""hyphenation: after which characters a German word may break (many to many, in step)."""

from __future__ import annotations

from functools import cache

import numpy as np

from seqport.models.spec import ModelSpec
from seqport.models.zoo.task import Dataset, Recipe, Split, Task, Vocabulary, data_package, pad

LETTERS = Vocabulary.of("abcdefghijklmnopqrstuvwxyzäöüß")
SEQ_MAX_LEN = 20
WORDS = 30_000
TEST_WORDS = 1_000


@cache
def load() -> Dataset:
    """Frequent German words, and after each character a 1 where the word may break, else a 0.

    Both sides of a break matter (the same letters break or not by what follows), so that the task
    needs a model that reads in both directions.
    """
    hyphens = data_package("pyphen").Pyphen(lang="de_DE")
    listed = data_package("wordfreq").top_n_list("de", WORDS)
    words = [word for word in listed if len(word) <= SEQ_MAX_LEN and LETTERS.covers(word)]
    inputs = pad([LETTERS.encode(word) for word in words], SEQ_MAX_LEN)
    breaks = np.zeros((len(words), SEQ_MAX_LEN, 1), np.float32)
    for row, word in zip(breaks, words, strict=True):
        # pyphen gives the position of the first character after the break
        row[[position - 1 for position in hyphens.positions(word)]] = 1
    return Dataset.held_out(Split(inputs, breaks), TEST_WORDS)


TASK = Task(
    name="hyphenation",
    spec=ModelSpec(
        cell="lstm",
        input_dim=24,
        num_hidden_units=48,
        out_dim=1,
        seq_max_len=SEQ_MAX_LEN,
        strategy="many_to_many",
        output="sigmoid",
        num_layers=2,
        bidirectional=True,
        vocab_size=len(LETTERS),
    ),
    summary="a German word's characters → where it may break",
    source="frequent German words from wordfreq, hyphenated by pyphen's de_DE dictionary",
    packages=("wordfreq", "pyphen"),
    load=load,
    score_name="exact match",
    recipe=Recipe(epochs=10),
    vocabulary=LETTERS,
)
