"""Whether what was exported of a model, and what the runtime makes of it, is the model's own answer.

Right is PyTorch's answer or a refusal, which is an error of seqport's. Any other error is a find.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort
from torch import nn

from hunt.feeds import feeds, first_steps, item, part, row_alone
from hunt.layers import FEATURES, Spec
from hunt.models import built, numbers
from hunt.pieces import ENDS_STEPS
from hunt.reference import Reference
from hunt.writers import wrong_writing
from seqport.errors import SeqportError
from seqport.exporters import Input, export
from seqport.runtime import Session

# Beyond so many elements a batch is not tried.
_MOST = 200_000


def finding(spec: Spec, folder: Path) -> str | None:
    """What goes wrong with a model, in a line; None where nothing does or the export is refused."""
    path = folder / "hunted.onnx"
    path.unlink(missing_ok=True)
    model, inputs = built(spec)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            export(model, path, inputs)
        except SeqportError:
            return None
        except Exception as error:  # whatever it is, a user sees it
            return f"export raises {_said(error)}"
        case = _Case(path, Reference(model), model, inputs, spec)
        for name, judge in _JUDGES.items():
            try:
                wrong = judge(case, np.random.default_rng(spec["seed"]))
            except SeqportError:
                continue  # a refusal
            except Exception as error:
                wrong = f"raises {_said(error)}"
            if wrong:
                return f"{name} {wrong}"
    return None


@dataclass(frozen=True)
class _Case:
    """A model that was exported."""

    path: Path
    reference: Reference
    model: nn.Module
    inputs: list[Input]
    spec: Spec


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


def _sizes(spec: Spec) -> Iterator[tuple[int, int]]:
    """Batches and steps around whatever may set in."""
    yield from ((1, 1), (2, 3), (5, 9), (3, 24), (7, 50), (2, 307))
    for number in numbers(spec):
        for steps in (number - 1, number, number + 1, 2 * number, number + 13):
            yield 2, steps
        yield number, 5
        yield -(-(number + 1) // 40), 40


def _of_file(case: _Case, random: np.random.Generator) -> str | None:
    session = ort.InferenceSession(case.path)
    for number, (batch, steps) in enumerate(_sizes(case.spec)):
        if steps < 1 or batch * steps * FEATURES > _MOST:
            continue
        for kind, feed in feeds(case.inputs, batch, steps, random, all_kinds=number <= 2):
            if said := case.reference.differs(np.asarray(session.run(None, feed)[0]), feed):
                return f"at batch={batch}, seq={steps}, {kind}: its output {said}"
    return None


def _of_run(case: _Case, random: np.random.Generator) -> str | None:
    session = Session(case.path, provider="cpu")
    for batch, steps in ((4, 11), (3, 2), (1, 60)):
        for kind, feed in feeds(case.inputs, batch, steps, random):
            try:
                (found, *_) = session.run(feed).values()
            except SeqportError:
                continue
            if said := case.reference.differs(found, feed):
                return f"at batch={batch}, seq={steps}, {kind}: its output {said}"
    return None


def _of_predict(case: _Case, random: np.random.Generator) -> str | None:
    lengths = [3, 9, 9, 5, 1, 30, *(n + 1 for n in numbers(case.spec) if n < 300)]
    factors = [1, 30, 1, 0.1, 1, 1000]
    rows = [row_alone(case.inputs, n, random, factors[i % len(factors)]) for i, n in enumerate(lengths)]
    session = Session(case.path, provider="cpu")
    filled = _filled(session)
    answers = session.predict([item(case.inputs, row, filled) for row in rows])
    for place, (row, answer) in enumerate(zip(rows, answers, strict=True)):
        if said := case.reference.differs(next(iter(answer.values()))[None], row):
            return f"of row {place} of {lengths[place]} steps: its output {said}"
    return None


def _of_stream(case: _Case, random: np.random.Generator) -> str | None:
    longest = max([40, *(n + 5 for n in numbers(case.spec) if n <= 300)])
    row = row_alone(case.inputs, longest, random)
    session = Session(case.path, provider="cpu")
    stream, filled = session.stream(), _filled(session)
    along = not any(piece[0] in ENDS_STEPS for piece in case.spec["behind"])
    start, parts = 0, []
    for end in sorted({1, 2, 7, longest // 2, longest - 1, longest}):
        chunk = item(case.inputs, part(case.inputs, row, start, end), filled)
        if start:  # what has no steps came with the first chunk
            chunk = {i.name: chunk[i.name] for i in case.inputs if i.name in chunk and "seq" in i.axes}
        parts.append(next(iter(stream.push(chunk).values())))
        start = end
        found = np.concatenate(parts) if along else parts[-1]
        if said := case.reference.differs(found[None], first_steps(case.inputs, row, end)):
            return f"after {end} steps: its output {said}"
    return None


def _of_writing(case: _Case, random: np.random.Generator) -> str | None:  # noqa: ARG001
    return wrong_writing(Session(case.path, provider="cpu"), case.model, case.spec) if case.spec["says"] else None


def _filled(session: Session) -> str | None:
    """The lengths that predict and streams fill in."""
    sequences = session.description.sequences if session.description else ()
    return next((sequence.lengths for sequence in sequences if sequence.lengths), None)


_JUDGES = {
    "the file": _of_file,
    "run": _of_run,
    "predict": _of_predict,
    "a stream": _of_stream,
    "what it writes:": _of_writing,
}
