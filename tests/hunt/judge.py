"""Whether what was exported of a model, and what the runtime makes of it, is the model's own answer.

Right is PyTorch's answer or a refusal. The model in float64 says where float32 can tell nothing.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime as ort
import torch
from torch import nn

from hunt.models import ENDS_STEPS, FEATURES, Spec, built, numbers
from seqport.errors import SeqportError
from seqport.exporters import export
from seqport.runtime import Session

# Of each output's own largest value.
_TOLERANCE = 1e-3
# Beyond so many elements a batch is not tried.
_MOST = 200_000
Arrays = dict[str, np.ndarray]


def finding(spec: Spec, folder: Path) -> str | None:
    """What goes wrong with a model, in a line; None where nothing does or the export is refused."""
    model, inputs = built(spec)
    path = folder / "hunted.onnx"
    path.unlink(missing_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            export(model, path, inputs)
        except SeqportError:
            return None
        random = np.random.default_rng(spec["seed"])
        reference = _Reference(model)
        has_lengths = len(inputs) > 1
        return (
            _of_file(path, reference, spec, random, has_lengths=has_lengths)
            or _of_predict(path, reference, spec, random, has_lengths=has_lengths)
            or _of_stream(path, reference, spec, random, has_lengths=has_lengths)
        )


class _Reference:
    """The model in both precisions."""

    def __init__(self, model: nn.Module) -> None:
        self._single, self._double = model, copy.deepcopy(model).double()

    def differs(self, found: np.ndarray, feed: Arrays) -> str | None:
        """How an answer differs from the model's, beyond what float32 explains; None where it does not."""
        with torch.no_grad():
            expected = self._single(*map(torch.from_numpy, feed.values())).numpy()
            exact = self._double(
                *(torch.from_numpy(a.astype("f8") if a.dtype.kind == "f" else a) for a in feed.values())
            ).numpy()
        if found.shape != expected.shape:
            return f"has the shape {list(found.shape)}, not {list(expected.shape)}"
        if expected.dtype.kind != "f":
            wrong = (found != expected) & (exact == expected)
            return f"is another at {int(wrong.sum())} places" if wrong.any() else None
        finite = np.isfinite(expected) & np.isfinite(exact)
        if not np.array_equal(np.isfinite(found)[finite], finite[finite]):
            return "is not finite where the model is"
        scale = float(np.abs(expected[finite]).max(initial=0.0))
        doubt = np.abs(expected[finite] - exact[finite])
        gap = np.abs(found[finite].astype("f8") - expected[finite]) - 10 * doubt.max(initial=0.0)
        worst = float(gap.max(initial=0.0))
        return f"differs by {worst:.2g} of {scale:.2g}" if worst > _TOLERANCE * scale + 1e-30 else None


def _sizes(spec: Spec) -> Iterator[tuple[int, int]]:
    """Batches and steps around whatever may set in."""
    yield from ((1, 1), (2, 3), (5, 9), (3, 24), (7, 50), (2, 307))
    for number in numbers(spec):
        for steps in (number - 1, number, number + 1, 2 * number, number + 13):
            yield 2, steps
        yield number, 5
        yield -(-(number + 1) // 40), 40


def _values(shape: tuple[int, ...], random: np.random.Generator) -> Iterator[tuple[str, np.ndarray]]:
    x = random.standard_normal(shape).astype("f4")
    flat = x.copy()
    flat[..., 0], flat[:1, shape[1] // 2 :] = 1.5, 0
    yield "usual values", x
    yield "values 30 times as large", x * 30
    yield "zeros", np.zeros_like(x)
    yield "a constant channel and zero steps", flat
    yield "multiples of 0.1", (np.round(x * 10) / 10).astype("f4")


def _feed(x: np.ndarray, random: np.random.Generator, has_lengths: bool) -> Arrays:
    if not has_lengths:
        return {"x": x}
    lengths = random.integers(1, x.shape[1] + 1, len(x))
    lengths[len(x) // 2] = x.shape[1]
    return {"x": x, "lengths": lengths}


def _of_file(
    path: Path, reference: _Reference, spec: Spec, random: np.random.Generator, *, has_lengths: bool
) -> str | None:
    session = ort.InferenceSession(path)
    for number, (batch, steps) in enumerate(_sizes(spec)):
        if steps < 1 or batch * steps * FEATURES > _MOST:
            continue
        for kind, x in _values((batch, steps, FEATURES), random):
            if number > 2 and kind != "usual values":
                break
            feed = _feed(x, random, has_lengths)
            said = reference.differs(np.asarray(session.run(None, feed)[0]), feed)
            if said:
                return f"the file at batch={batch}, seq={steps}, {kind}: its output {said}"
    return None


def _rows(spec: Spec, random: np.random.Generator) -> list[np.ndarray]:
    lengths = [3, 9, 9, 5, 1, 30, *(n + 1 for n in numbers(spec) if n < 300)]
    factors = [1, 30, 1, 0.1, 1, 1000]
    return [
        (random.standard_normal((n, FEATURES)) * factors[i % len(factors)]).astype("f4") for i, n in enumerate(lengths)
    ]


def _alone(row: np.ndarray, has_lengths: bool) -> Arrays:
    return {"x": row[None], "lengths": np.array([len(row)])} if has_lengths else {"x": row[None]}


def _of_predict(
    path: Path, reference: _Reference, spec: Spec, random: np.random.Generator, *, has_lengths: bool
) -> str | None:
    rows = _rows(spec, random)
    try:
        answers = Session(path, provider="cpu").predict(rows)
    except SeqportError:
        return None
    for place, (row, answer) in enumerate(zip(rows, answers, strict=True)):
        said = reference.differs(next(iter(answer.values()))[None], _alone(row, has_lengths))
        if said:
            return f"predict, row {place} of {len(row)} steps: its output {said}"
    return None


def _of_stream(
    path: Path, reference: _Reference, spec: Spec, random: np.random.Generator, *, has_lengths: bool
) -> str | None:
    longest = max([40, *(n + 5 for n in numbers(spec) if n <= 300)])
    row = random.standard_normal((longest, FEATURES)).astype("f4")
    session = Session(path, provider="cpu")
    try:
        stream = session.stream()
    except SeqportError:
        return None
    along = not any(piece[0] in ENDS_STEPS for piece in spec["behind"])
    ends = sorted({1, 2, 7, longest // 2, longest - 1, longest})
    start, parts = 0, []
    for end in ends:
        parts.append(next(iter(stream.push(row[start:end]).values())))
        start = end
        found = np.concatenate(parts) if along else parts[-1]
        said = reference.differs(found[None], _alone(row[:end], has_lengths))
        if said:
            return f"a stream after {end} steps: its output {said}"
    return None
