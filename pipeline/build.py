"""Exports the zoo: every part of every model, from PyTorch and from Keras, each one timed."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from seqport.exporters import Artifact, Input, export
from seqport.models import ModelSpec, Part, Weights, zoo
from seqport.pipeline.errors import PipelineError

FRAMEWORKS = ("pytorch", "keras")
# What an export of a zoo model may take; a slower one is marked where the times are printed.
SECONDS_ALLOWED = 3.0


@dataclass(frozen=True)
class Built:
    """One export of one part."""

    model: str
    part: str
    framework: str
    path: Path
    seconds: float
    bytes: int


def artifact_path(folder: Path, model: str, part: Part, framework: str) -> Path:
    """Where an artifact stands: the part is named where a model has several."""
    name = model if part.name == "model" else f"{model}.{part.name}"
    return folder / f"{name}.{framework}.onnx"


def build_zoo(
    names: Iterable[str],
    folder: Path,
    frameworks: Iterable[str] = FRAMEWORKS,
    step: Callable[[str], None] = lambda _: None,
) -> list[Built]:
    """Export models of the zoo.

    Args:
        names: of the models.
        folder: where the artifacts go; it is created.
        frameworks: which of `FRAMEWORKS` to export from.
        step: called with what is done, after each export.

    Raises:
        PipelineError: there is no such framework.
        ZooError: there is no such model.
        ExportError: a model cannot be exported.
    """
    tasks = [zoo.get(name) for name in names]
    folder.mkdir(parents=True, exist_ok=True)
    built = []
    for framework in frameworks:
        _warm_up(framework)
        for task in tasks:
            weights = zoo.load_weights(task.name)
            for part in task.spec.parts():
                path = artifact_path(folder, task.name, part, framework)
                started = perf_counter()
                export_part(part, weights, framework, path)
                seconds = perf_counter() - started
                built.append(Built(task.name, part.name, framework, path, seconds, path.stat().st_size))
                step(f"exported {path.name}")
    return built


def export_part(part: Part, weights: Weights, framework: str, path: Path) -> Artifact:
    """Build one part in a framework and export it."""
    # Keras could say its inputs itself, but not that the states are [layers * directions, batch, hidden].
    inputs = [Input(*tensor) for tensor in part.inputs]
    # The export is proven on every token of the vocabulary instead of on 0 and 1.
    example = {"ids": np.arange(part.vocab_size)[np.newaxis]} if part.vocab_size else None
    return export(framework_model(part, weights, framework), path, inputs=inputs, example=example)


def framework_model(part: Part, weights: Weights, framework: str) -> Any:
    """One part as a framework's own model, ready for inference."""
    if framework == "pytorch":
        from seqport.models import pytorch

        return pytorch.build(part, weights).eval()
    if framework == "keras":
        from seqport.models import keras

        return keras.build(part, weights)
    raise PipelineError(f"there is no framework {framework!r}: expected one of {', '.join(FRAMEWORKS)}")


def _warm_up(framework: str) -> None:
    """Export something small and forget it: the first export also imports what a framework loads lazily."""
    spec = ModelSpec(
        cell="rnn", input_dim=1, num_hidden_units=1, out_dim=1, seq_max_len=2, strategy="many_to_one", vocab_size=2
    )
    with tempfile.TemporaryDirectory() as folder:
        (part,) = spec.parts()
        export_part(part, Weights.random(spec, seed=0), framework, Path(folder) / "warm-up.onnx")
