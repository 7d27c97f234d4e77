"""digits: a handwritten digit read row by row from the top (many to one, every row of pixels one step)."""

from __future__ import annotations

from functools import cache

import numpy as np

from seqport.models.spec import ModelSpec
from seqport.models.zoo.task import Dataset, Recipe, Split, Task, data_package

ROWS = COLUMNS = 8
BRIGHTEST = 16
TEST_IMAGES = 500


@cache
def load() -> Dataset:
    """The 1797 images of 8 × 8 pixels; every one has all its rows, so that nothing is padded."""
    data = data_package("sklearn.datasets").load_digits()
    x = (data.images / BRIGHTEST).astype(np.float32)  # [image, row, column]
    lengths = np.full(len(x), ROWS, np.int64)
    return Dataset.held_out(Split({"x": x, "lengths": lengths}, data.target.astype(np.int64)), TEST_IMAGES)


TASK = Task(
    name="digits",
    spec=ModelSpec(
        cell="rnn",
        activation="relu",
        input_dim=COLUMNS,
        num_hidden_units=64,
        out_dim=10,
        seq_max_len=ROWS,
        strategy="many_to_one",
        output="softmax",
    ),
    summary="the eight rows of a handwritten digit → which digit",
    source="the optical digits of scikit-learn",
    packages=("scikit-learn",),
    load=load,
    score_name="accuracy",
    recipe=Recipe(epochs=60, batch_size=64, learning_rate=3e-3),
    answers=tuple("0123456789"),
)
