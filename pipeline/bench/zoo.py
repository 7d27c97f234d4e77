"""The zoo's models on real batches: seqport's calls beside ONNX Runtime's own, PyTorch and Keras."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from seqport.models import Part, Weights, zoo
from seqport.pipeline.batches import Batch, batches
from seqport.pipeline.bench.timing import ROUNDS, Call, Timing, timed
from seqport.pipeline.build import Built, artifact_path
from seqport.pipeline.layout import Layout
from seqport.pipeline.report import Step, Table
from seqport.pipeline.runners import KerasRunner, PyTorchRunner
from seqport.runtime import Session

# The rows that `predict` puts into batches of its own.
_RAGGED_ROWS = 256
# Rows, and steps as a share of the longest row's: one step of one row, a batch, and the rows for `predict`.
_SHAPES = ((1, 0.0), (32, 1.0), (_RAGGED_ROWS, 1.0))
# A difference within this share is the machine's noise, not a loss.
_NOISE = 0.05


@dataclass(frozen=True)
class Race:
    """Calls that answer the same batch, timed in turns; the first one is seqport's."""

    group: str
    model: str
    rows: int
    steps: int
    timings: Mapping[str, Timing]

    @property
    def own(self) -> Timing:
        """What seqport took."""
        return next(iter(self.timings.values()))

    @property
    def others(self) -> dict[str, Timing]:
        """What everything else took."""
        return dict(list(self.timings.items())[1:])


def measure(names: Sequence[str], folder: Path, step: Step = lambda _: None, *, rounds: int = ROUNDS) -> list[Race]:
    """Time the artifacts of models, exported from PyTorch, on the CPU.

    Args:
        names: of models in the zoo.
        folder: where their artifacts are.
        step: called after each part of a model.
        rounds: how often each call has its turn.
    """
    races = []
    for name in names:
        weights = zoo.load_weights(name)
        for part, several in batches(zoo.get(name), weights, _SHAPES):
            label = name if part.name == "model" else f"{name}.{part.name}"
            races += _races(label, part, weights, artifact_path(folder, name, part, "pytorch"), several, rounds)
            step(label)
    return races


def table(races: Sequence[Race]) -> Table:
    """One line for each pair of seqport and something else, and a summary of where seqport is slower."""
    times = ["seqport\nms", "quartiles", "other", "other\nms", "quartiles"]
    headers = ["group", "model", "batch", *times, "seqport ÷\nother", "seqport –\nother µs"]
    found = Table("bench zoo: milliseconds a call, medians of interleaved rounds", headers)
    slower: dict[str, list[str]] = {}
    for race in races:
        batch = f"{race.rows} × {race.steps}"
        for other, timing in race.others.items():
            ratio, excess = race.own.ratio(timing), race.own.excess(timing) * 1e6
            times = [*_cells(race.own), other, *_cells(timing)]
            found.add(race.group, race.model, batch, *times, f"{ratio:.2f}", f"{excess:.0f}")
            if ratio > 1 + _NOISE:
                slower.setdefault(other, []).append(f"{race.model} {batch} ({ratio:.2f} times, {excess:+.0f} µs)")
    found.notes = [f"seqport is slower than {other}: {', '.join(where)}" for other, where in slower.items()]
    found.notes = found.notes or [f"seqport is nowhere slower by more than {_NOISE:.0%}"]
    return found


def to_json(races: Sequence[Race], exports: Sequence[Built]) -> dict[str, Any]:
    """The measurements as plain data, in seconds."""
    return {
        "races": [_plain(race) for race in races],
        "exports": [{"artifact": built.path.name, "seconds": built.seconds} for built in exports],
    }


def _plain(race: Race) -> dict[str, Any]:
    names = ("low", "median", "high")
    return {
        "group": race.group,
        "model": race.model,
        "rows": race.rows,
        "steps": race.steps,
        "seconds": {name: dict(zip(names, t.quartiles, strict=True)) for name, t in race.timings.items()},
        "ratios": {other: race.own.ratio(timing) for other, timing in race.others.items()},
    }


def _races(
    label: str, part: Part, weights: Weights, path: Path, several: Sequence[Batch], rounds: int
) -> Iterator[Race]:
    import onnxruntime

    session, raw = Session(path, "cpu"), onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    pytorch, keras = PyTorchRunner(part, weights), KerasRunner(part, weights)
    for batch in several:
        feed = {name: batch.inputs[name] for name, _, _ in part.inputs}
        own = partial(session.run, feed)
        groups: dict[str, dict[str, Call]] = {
            "overhead": {"seqport": own, "onnxruntime": partial(raw.run, None, feed)},
            "frameworks": {
                "seqport": own,
                "PyTorch packed": partial(pytorch, feed),
                "Keras graph": partial(keras, feed),
            },
        }
        if batch.rows == _RAGGED_ROWS:
            items = _items(Layout.of(part), feed)
            groups = {"ragged": {"predict": partial(session.predict, items), "one padded batch": own}}
        for group, calls in groups.items():
            yield Race(group, label, batch.rows, batch.steps, timed(calls, rounds))


def _items(layout: Layout, feed: Mapping[str, np.ndarray]) -> list[dict[str, np.ndarray]]:
    """The rows of a batch as `predict` takes them: without padding, lengths and batch axis."""
    items = []
    for row, length in enumerate(feed[layout.lengths]):
        arrays = {name: feed[name].take(row, place.batch) for name, place in layout.inputs.items()}
        items.append({n: a[:length] if layout.inputs[n].steps is not None else a for n, a in arrays.items()})
    return items


def _cells(timing: Timing) -> tuple[str, str]:
    low, middle, high = (f"{seconds * 1e3:.3f}" for seconds in timing.quartiles)
    return middle, f"{low}–{high}"
