"""How `predict` groups rows, on machines whose costs are made up: a clock that moves as a law says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from seqport.runtime import Description, SequenceInfo, TensorInfo
from seqport.runtime.options import Options
from seqport.runtime.ragged import RaggedBatches

Law = Callable[[int, int, int], float]
LAWS: dict[str, Law] = {
    "computes padding": lambda rows, steps, _: 1e-4 + 1.6e-5 * steps + 4.4e-6 * rows * steps,
    "skips padding": lambda _, steps, valid: 2e-4 + 2e-5 * steps + 5e-6 * valid,
    "small model": lambda rows, steps, _: 3e-5 + 3e-7 * steps + 2e-7 * rows * steps + 1e-6 * rows,
    "out of the cache above 64 rows": lambda rows, steps, _: (
        (1e-4 + 1e-5 * steps + 4e-6 * rows * steps) * (1.5 if rows > 64 else 1.0)
    ),
}
DESCRIPTION = Description(
    inputs=(TensorInfo("x", "float32", ("batch", "seq", 3)), TensorInfo("lengths", "int64", ("batch",))),
    outputs=(TensorInfo("output", "float32", ("batch", "seq", 3)), TensorInfo("h_T", "float32", (1, "batch", 4))),
    sequences=(SequenceInfo("seq", "batch", "lengths", {"x": 1}, {"output": 1}),),
)
BUCKETS = (8, 16, 32, 64, 128, 256, 512)


class Machine:
    """Answers as a model whose output is its input, and takes the time that a law says."""

    def __init__(self, law: Law) -> None:
        self.now, self.ran, self._law = 0.0, [], law
        self.batches = RaggedBatches(DESCRIPTION, lambda: self.now)

    def run(self, feed: Mapping[str, Any]) -> dict[str, np.ndarray]:
        x, lengths = feed["x"], feed["lengths"]
        self.ran.append(lengths.tolist())
        self.now += self._law(len(x), x.shape[1], int(lengths.sum()))
        return {"output": x, "h_T": np.zeros((1, len(x), 4), np.float32)}

    def predict(self, lengths: np.ndarray, **options: Any) -> float:
        """The seconds that rows of these lengths take; every answer is checked."""
        items = [np.full((steps, 3), steps, np.float32) for steps in lengths]
        before = self.now
        for item, answer in zip(items, self.batches.predict(self.run, items, Options(**options)), strict=True):
            assert isinstance(answer, dict)
            np.testing.assert_array_equal(answer["output"], item)
        return self.now - before


def _lengths(kind: str, rows: int, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    drawn = random.integers(1, 101, rows) if kind == "uniform" else random.exponential(25, rows)
    return np.clip(drawn, 1, 400).astype(np.int64)


def _padded(law: Law, lengths: np.ndarray, batch_size: int) -> float:
    parts = [lengths[start : start + batch_size] for start in range(0, len(lengths), batch_size)]
    return sum(law(len(part), int(part.max()), int(part.sum())) for part in parts)


def _bucketed(law: Law, lengths: np.ndarray, batch_size: int) -> float:
    places = np.searchsorted(BUCKETS, lengths)
    return sum(_padded(law, lengths[places == place], batch_size) for place in np.unique(places))


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("kind", ["uniform", "exponential"])
@pytest.mark.parametrize("rows", [100, 1000])
def test_no_fixed_scheme_is_faster(law, kind, rows) -> None:
    """Not padding to the longest, nor fixed buckets, in batches of 32, 64 and 128: once the cost is learned."""
    machine = Machine(LAWS[law])
    for seed in (1, 2, 3):
        machine.predict(_lengths(kind, rows, seed))
    lengths = _lengths(kind, rows)
    took = machine.predict(lengths)
    for batch_size in (32, 64, 128):
        for theirs in (_padded, _bucketed):
            assert took < theirs(LAWS[law], lengths, batch_size) * (1 + 1e-9)  # equal cuts, summed in another order


@pytest.mark.parametrize("law", LAWS)
def test_learning_costs_little(law) -> None:
    """The very first call, whose first runs are there to learn from."""
    lengths = _lengths("uniform", 1000)
    first = Machine(LAWS[law]).predict(lengths)
    assert first <= 1.1 * min(_bucketed(LAWS[law], lengths, size) for size in (32, 64, 128))


def test_a_machine_that_skips_padding_gets_ragged_batches() -> None:
    fill = {}
    for law in ("computes padding", "skips padding"):
        machine = Machine(LAWS[law])
        machine.predict(_lengths("uniform", 500))
        machine.ran.clear()
        machine.predict(_lengths("uniform", 200, seed=1))
        fill[law] = sum(map(sum, machine.ran)) / sum(len(ran) * max(ran) for ran in machine.ran)
    assert fill["skips padding"] < 0.85 < fill["computes padding"]


def test_rows_beyond_a_cliff_are_avoided() -> None:
    machine = Machine(lambda rows, steps, _: (1e-4 + 4e-6 * rows * steps) * (3 if rows > 32 else 1))
    for seed in range(6):
        machine.predict(_lengths("uniform", 500, seed))
    machine.ran.clear()
    machine.predict(_lengths("uniform", 500, 9))
    assert sum(len(ran) for ran in machine.ran if len(ran) > 32) < 50


def test_batches_are_bounded_and_never_mix_lengths() -> None:
    machine = Machine(LAWS["computes padding"])
    machine.predict(_lengths("uniform", 50), batch_size=6)
    ran = sorted(sorted(lengths) for lengths in machine.ran)
    assert max(map(len, ran)) <= 6
    assert all(shorter[-1] <= longer[0] for shorter, longer in pairwise(ran))
