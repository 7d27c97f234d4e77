"""Whether a session is fit to answer: it runs on made-up input, beside the file itself on the CPU.

The session may run rewritten nodes, on a GPU, with libraries that nobody tried together before; the file on the CPU is
what its exporter proved.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from seqport.runtime.artifact import Description, TensorInfo
from seqport.runtime.convert import numpy_dtype
from seqport.runtime.errors import InputDtypeError, InputError, ProviderError

Run = Callable[[Mapping[str, Any]], dict[str, np.ndarray]]
# Relative to each value where that is above 1: float32 kernels that sum in another order stay far below it.
TOLERANCE = 1e-4
_BATCH, _STEPS = 2, 5


def trial_inputs(
    signature: Description, seed: int = 0, *, rows: int = _BATCH, steps: int = _STEPS
) -> dict[str, np.ndarray]:
    """Made-up inputs that fit a signature: normal numbers, ids of 0 and 1, a full row and the others half as long.

    Args:
        signature: the inputs' names, types and axes.
        seed: of the numbers.
        rows: of the batch; the size of any other open axis too.
        steps: of each sequence. Where an axis has limits, the nearest size within them.

    Raises:
        InputDtypeError: an input takes something that cannot be made up, such as strings.
    """
    random = np.random.default_rng(seed)
    sizes: dict[str | int, int] = {}
    for sequence in signature.sequences:
        sizes |= {sequence.batch_axis: rows, sequence.axis: steps}
    for axis, (low, high) in signature.limits.items():
        sizes[axis] = min(max(sizes.get(axis, rows), low), high or low + steps)
    lengths = {sequence.lengths: sequence for sequence in signature.sequences if sequence.lengths}
    feed = {}
    for info in signature.inputs:
        shape = tuple(axis if isinstance(axis, int) else sizes.get(axis, rows) for axis in info.axes)
        if info.name in lengths:
            feed[info.name] = _lengths(info, shape, _steps(signature, lengths[info.name].inputs, sizes))
        else:
            feed[info.name] = _values(info, shape, random, described=bool(signature.sequences))
    return feed


def check_ready(run: Run, reference: Run, signature: Description, inputs: Mapping[str, Any] | None) -> float:
    """Run both, and compare; see `Session.check_ready`."""
    feed = trial_inputs(signature) if inputs is None else inputs
    try:
        expected = reference(feed)
    except InputError as error:
        if inputs is not None:
            raise
        raise type(error)(f"made-up inputs do not fit: give check_ready some that the model takes ({error})") from error
    try:
        found = run(feed)
    except Exception as error:
        raise ProviderError(f"a trial inference failed, which the CPU runs: {error}") from error
    differences = {name: _difference(np.asarray(found[name]), value) for name, value in expected.items()}
    worst = max(differences, key=lambda name: (not differences[name] <= TOLERANCE, differences[name]))
    if not differences[worst] <= TOLERANCE:  # NaN too
        raise ProviderError(
            f"a trial inference differs from the CPU's answer by {differences[worst]:.2g} in output {worst!r}, "
            f"expected at most {TOLERANCE:g}: the GPU, its driver or its libraries compute wrongly, or a rewritten node"
        )
    return differences[worst]


def _steps(signature: Description, padded: Mapping[str, int], sizes: Mapping[str | int, int]) -> int:
    """The size of the sequence axis that lengths are of."""
    for info in signature.inputs:
        if info.name in padded:
            axis = info.axes[padded[info.name]]
            return axis if isinstance(axis, int) else sizes[axis]
    return 1


def _lengths(info: TensorInfo, shape: tuple[int, ...], steps: int) -> np.ndarray:
    values = np.full(shape, steps, info.dtype)
    values[1:] = max(1, steps // 2)
    return values


def _values(info: TensorInfo, shape: tuple[int, ...], random: np.random.Generator, *, described: bool) -> np.ndarray:
    dtype = numpy_dtype(info.dtype)
    if dtype is None or dtype.kind not in "fiub":
        raise InputDtypeError(f"input {info.name!r} is {info.dtype}, which cannot be made up: give check_ready inputs")
    if dtype.kind == "f":
        return random.normal(size=shape).astype(dtype)
    if dtype.kind == "b":
        return np.ones(shape, dtype)  # a mask that keeps all steps
    # Ids, which are at least 0 and 1 in any table; in a plain file perhaps lengths, of which only 1 is always right.
    return random.integers(0, 2, shape).astype(dtype) if described else np.ones(shape, dtype)


def _difference(found: np.ndarray, expected: np.ndarray) -> float:
    if found.shape != expected.shape or expected.dtype.kind not in "fiub":
        return 0.0 if np.array_equal(found, expected) else float("inf")
    if not expected.size:
        return 0.0
    wide = expected.astype(np.float64)
    with np.errstate(invalid="ignore"):
        scaled = np.abs(found.astype(np.float64) - wide) / np.maximum(1.0, np.abs(wide))
    return float(np.where(found == expected, 0.0, scaled).max())  # equal infinities do not differ
