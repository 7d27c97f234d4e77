"""generator: an English word from its first letter (one to many: every output goes back in)."""

from __future__ import annotations

from functools import cache

import numpy as np

from seqport.models.spec import ModelSpec
from seqport.models.zoo.task import END, Dataset, Recipe, Split, Task, Vocabulary, data_package, pad

LETTERS = Vocabulary.of([*"abcdefghijklmnopqrstuvwxyz", END])
SEQ_MAX_LEN = 14
WORDS = 20_000
TEST_WORDS = 1_000
HIDDEN, LAYERS = 96, 2


@cache
def load() -> Dataset:
    """Frequent English words: at each character the target is the next one, at the last the end.

    That is teacher forcing, with the true characters going in. The state starts at zero, and is among
    the inputs so that the same network can be called step by step with its own state and output.
    """
    listed = data_package("wordfreq").top_n_list("en", WORDS)
    words = [word for word in listed if len(word) <= SEQ_MAX_LEN and LETTERS.covers(word)]
    inputs = pad([LETTERS.encode(word) for word in words], SEQ_MAX_LEN)
    inputs["h_0"] = np.zeros((LAYERS, len(words), HIDDEN), np.float32)
    targets = pad([LETTERS.encode([*word[1:], END]) for word in words], SEQ_MAX_LEN)["ids"]
    return Dataset.held_out(Split(inputs, targets), TEST_WORDS)


TASK = Task(
    name="generator",
    spec=ModelSpec(
        cell="gru",
        input_dim=32,
        num_hidden_units=HIDDEN,
        out_dim=len(LETTERS),
        seq_max_len=SEQ_MAX_LEN,
        strategy="one_to_many",
        output="softmax",
        num_layers=LAYERS,
        vocab_size=len(LETTERS),
    ),
    summary="a first letter → an English word, character by character",
    source="the most frequent English words, from wordfreq",
    packages=("wordfreq",),
    load=load,
    score_name="accuracy",
    recipe=Recipe(epochs=10, batch_size=128, learning_rate=3e-3),
    vocabulary=LETTERS,
    answers=LETTERS.tokens,
)
