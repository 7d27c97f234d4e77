"""language: which of ten languages a word is from, read character by character (many to one)."""

from __future__ import annotations

from functools import cache

import numpy as np

from seqport.models.spec import ModelSpec
from seqport.models.zoo.task import Dataset, Recipe, Split, Task, Vocabulary, data_package, pad

LANGUAGES = ("de", "en", "es", "fi", "fr", "it", "nl", "pl", "pt", "sv")
LETTERS = Vocabulary.of("abcdefghijklmnopqrstuvwxyzàáâãäåçèéêëìíîïñòóôõöùúûüąćęłńœśźżß'")
SEQ_MAX_LEN = 16
WORDS_PER_LANGUAGE = 15_000
TEST_WORDS = 1_000


@cache
def load() -> Dataset:
    """The most frequent words of each language, each word once."""
    wordfreq = data_package("wordfreq")
    lists = [wordfreq.top_n_list(language, WORDS_PER_LANGUAGE) for language in LANGUAGES]
    language_of: dict[str, int] = {}
    # Rank by rank through all languages: a word of several belongs to the one that uses it most.
    for rank in zip(*lists, strict=True):
        for language, word in enumerate(rank):
            if len(word) <= SEQ_MAX_LEN and LETTERS.covers(word):
                language_of.setdefault(word, language)
    ids = [LETTERS.encode(word) for word in language_of]
    rows = Split(pad(ids, SEQ_MAX_LEN), np.array(list(language_of.values()), np.int64))
    return Dataset.held_out(rows, TEST_WORDS)


TASK = Task(
    name="language",
    spec=ModelSpec(
        cell="gru",
        input_dim=32,
        num_hidden_units=96,
        out_dim=len(LANGUAGES),
        seq_max_len=SEQ_MAX_LEN,
        strategy="many_to_one",
        output="softmax",
        vocab_size=len(LETTERS),
    ),
    summary="a word's characters → its language, one of ten",
    source="the most frequent words of ten languages, from wordfreq",
    packages=("wordfreq",),
    load=load,
    score_name="accuracy",
    recipe=Recipe(epochs=7, batch_size=256, learning_rate=5e-3),
    vocabulary=LETTERS,
    answers=LANGUAGES,
)
