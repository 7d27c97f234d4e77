"""One model of a user: where it comes from, and what it is exported with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from seqport.exporters import Artifact, export
from seqport.pipeline.errors import PipelineError
from seqport.pipeline.project.source import is_importable, load_source
from seqport.pipeline.project.spelling import parse_input, read_array
from seqport.pipeline.project.weights import load_weights


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How one artifact is made. Paths are relative to the project's folder.

    Attributes:
        name: what to call it.
        source: `module:attribute`, `file.py:attribute`, or the path of a saved model.
        target: the ONNX file to write.
        arguments: keyword arguments of the attribute, where it is called.
        weights: a file of weights to load into the model.
        inputs: each as `name:dtype[axis,...]`; none where the model knows its own.
        outputs: names of the outputs; none where the model is to choose.
        example: input name → a .npy file with values that the proof draws from.
        options: keyword arguments of `seqport.exporters.export` beside these.
        depends: further files that the model is made from, as glob patterns.
    """

    name: str
    source: str
    target: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    weights: str | None = None
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    example: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    depends: tuple[str, ...] = ()

    def run(self, folder: Path) -> tuple[Artifact, ModuleType | None]:
        """Make the model, give it its weights and export it; also the module that it came from.

        Raises:
            PipelineError: the source, the weights or an example cannot be read, or do not fit.
            ExportError: the model cannot be exported.
        """
        inputs = [parse_input(text) for text in self.inputs] or None
        example = {name: read_array(folder / path) for name, path in self.example.items()} or None
        if self.weights and not is_importable(self.source):
            raise PipelineError(f"{self.source} is a saved model with weights of its own: leave {self.weights} out")
        model, module = load_source(self.source, self.arguments, folder)
        if self.weights:
            load_weights(model, folder / self.weights)
        target = folder / self.target
        target.parent.mkdir(parents=True, exist_ok=True)
        return export(model, target, inputs, list(self.outputs) or None, example, **self.options), module

    def files(self, folder: Path) -> list[Path]:
        """Every file that the recipe names: the saved model, weights, examples and what it depends on."""
        named = [*([self.weights] if self.weights else []), *self.example.values()]
        if not is_importable(self.source):
            named.append(self.source)
        paths = [folder / name for name in named]
        paths += [path for pattern in self.depends for path in folder.glob(pattern)]
        whole = [sorted(path.rglob("*")) if path.is_dir() else [path] for path in paths]
        return list(dict.fromkeys(path for several in whole for path in several if not path.is_dir()))
