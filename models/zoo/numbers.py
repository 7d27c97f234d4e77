"""numbers: a number in English words to its digits (encoder and decoder)."""

from __future__ import annotations

import re
from functools import cache

import numpy as np

from seqport.models.spec import ModelSpec
from seqport.models.zoo.task import END, START, Dataset, Recipe, Split, Task, Vocabulary, data_package, pad


def words_of(text: str) -> list[str]:
    """The words of a number, without hyphens and commas."""
    return re.findall("[a-z]+", text)


WORDS = Vocabulary.of(
    words_of(
        "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
        "seventeen eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred thousand and"
    )
)
DIGITS = Vocabulary.of([START, END, *"0123456789"])
SEQ_MAX_LEN = 11  # "seven hundred and seventy-seven thousand, seven hundred and seventy-seven"
LARGEST = 999_999
DECODED = 7  # six digits and the end
SAMPLED = 20_000
TEST_NUMBERS = 500


@cache
def load() -> Dataset:
    """All numbers below a thousand and a sample of the others; the targets are the digits and the end."""
    num2words = data_package("num2words").num2words
    sampled = np.random.default_rng(0).choice(np.arange(1000, LARGEST + 1), SAMPLED, replace=False)
    numbers = [*range(1000), *sampled.tolist()]
    spoken = [WORDS.encode(words_of(num2words(number))) for number in numbers]
    targets = pad([DIGITS.encode([*str(number), END]) for number in numbers], DECODED)["ids"]
    return Dataset.held_out(Split(pad(spoken, SEQ_MAX_LEN), targets), TEST_NUMBERS)


TASK = Task(
    name="numbers",
    spec=ModelSpec(
        cell="lstm",
        input_dim=32,
        num_hidden_units=96,
        out_dim=len(DIGITS),
        seq_max_len=SEQ_MAX_LEN,
        strategy="encoder_decoder",
        output="softmax",
        vocab_size=len(WORDS),
    ),
    summary="a number in English words → its digits",
    source="the numbers up to 999,999 in words, from num2words",
    packages=("num2words",),
    load=load,
    score_name="exact match",
    recipe=Recipe(epochs=12, batch_size=128, learning_rate=5e-3),
    vocabulary=WORDS,
    answers=DIGITS.tokens,
)
