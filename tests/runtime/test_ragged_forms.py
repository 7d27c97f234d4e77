"""Models of every form share batches within the bound: several sequences, time first, axes that cannot be padded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from seqport.runtime import Description, InputError, SequenceInfo, TensorInfo
from seqport.runtime.options import Options
from seqport.runtime.ragged import RaggedBatches

# Two sequences with lengths, one of them time first; an axis "wide" that nothing masks; an output of both.
DESCRIPTION = Description(
    inputs=(
        TensorInfo("source", "float32", ("batch", "s", 2)),
        TensorInfo("target", "int64", ("t", "batch")),
        TensorInfo("image", "float32", ("batch", "wide", 3)),
        TensorInfo("n_s", "int32", ("batch", 1)),
        TensorInfo("n_t", "int64", ("batch",)),
    ),
    outputs=(
        TensorInfo("encoded", "float32", (2, "s", "batch")),
        TensorInfo("decoded", "int64", ("t", "batch")),
        TensorInfo("score", "float32", ("batch",)),
        TensorInfo("image_out", "float32", ("batch", 3, "wide")),
    ),
    sequences=(
        SequenceInfo("s", "batch", "n_s", {"source": 1}, {"encoded": 1}),
        SequenceInfo("t", "batch", "n_t", {"target": 0}, {"decoded": 0}, padding_value=-1),
    ),
)


def _items(rows: int, seed: int) -> list[dict[str, np.ndarray]]:
    random = np.random.default_rng(seed)
    wide = 15 * random.integers(1, 4, rows)  # more than any steps
    return [
        {
            "source": random.normal(size=(s, 2)).astype(np.float32),
            "target": random.integers(0, 50, t),
            "image": random.normal(size=(wide, 3)).astype(np.float32),
        }
        for s, t, wide in zip(random.integers(1, 20, rows), random.integers(1, 9, rows), wide, strict=True)
    ]


class Model:
    """Gives each input back in another order of axes, and checks lengths and padding."""

    def __init__(self) -> None:
        self.bytes: list[int] = []
        self.rows: list[int] = []

    def run(self, feed: Mapping[str, Any]) -> dict[str, np.ndarray]:
        source, target, image = feed["source"], feed["target"], feed["image"]
        assert (feed["n_s"].dtype, feed["n_t"].dtype) == (np.int32, np.int64)
        for row, (s, t) in enumerate(zip(feed["n_s"][:, 0], feed["n_t"], strict=True)):
            assert not source[row, s:].any() and (target[t:, row] == -1).all() and (target[:t, row] >= 0).all()
        outputs = {
            "encoded": source.transpose(2, 1, 0),
            "decoded": target * 2,
            "score": source.sum((1, 2)),
            "image_out": image.transpose(0, 2, 1),
        }
        self.rows.append(len(source))
        self.bytes.append(sum(a.nbytes for a in (source, target, image, *outputs.values())))
        return outputs


@pytest.mark.parametrize("memory_limit", [None, 2000])
@pytest.mark.parametrize("batch_size", [5, 128])
@pytest.mark.parametrize("read_ahead", [40, 4096])
def test_every_row_gets_its_own_answer_within_the_bounds(memory_limit, batch_size, read_ahead) -> None:
    batches, model, items = RaggedBatches(DESCRIPTION), Model(), _items(300, seed=1)
    options = Options(batch_size, memory_limit, read_ahead=read_ahead)
    answers = list(batches.stream(model.run, iter(items), options))
    assert len(answers) == len(items)
    for item, answer in zip(items, answers, strict=True):
        assert isinstance(answer, dict)
        np.testing.assert_array_equal(answer["encoded"], item["source"].T)
        np.testing.assert_array_equal(answer["decoded"], item["target"] * 2)
        np.testing.assert_allclose(answer["score"], item["source"].sum(), rtol=1e-5, atol=1e-5)
        np.testing.assert_array_equal(answer["image_out"], item["image"].T)
    assert max(model.rows) <= batch_size and max(model.rows) > 2
    assert memory_limit is None or memory_limit / 2 < max(model.bytes) <= memory_limit


def test_a_second_sequence_counts_for_the_bound_though_rows_stand_in_order_of_both() -> None:
    """Rows of one total length: each pads what the other has short."""
    batches, model = RaggedBatches(DESCRIPTION), Model()
    [form] = _items(1, seed=0)
    items = [
        {**form, "source": np.ones((s, 2), np.float32), "target": np.zeros(21 - s, np.int64)} for s in range(1, 21)
    ]
    options = Options(memory_limit=3000)
    assert len(batches.predict(model.run, items, options)) == 20
    assert max(model.bytes) <= 3000


def test_an_item_whose_sizes_disagree_is_named() -> None:
    batches, model, items = RaggedBatches(DESCRIPTION), Model(), _items(3, seed=0)
    items[1]["image"] = items[1]["image"][:, :2]
    with pytest.raises(InputError, match=r"^item 1: input 'image' has the shape"):
        batches.predict(model.run, items, Options(in_order=False))


def test_an_item_whose_unpadded_axis_is_too_large_is_named() -> None:
    batches, model, items = RaggedBatches(DESCRIPTION), Model(), _items(3, seed=0)
    items[2]["image"] = np.zeros((500, 3), np.float32)
    with pytest.raises(InputError, match=r"^item 2: its inputs and outputs take 12\d\d\d bytes"):
        batches.predict(model.run, items, Options(memory_limit=9000, in_order=False))
