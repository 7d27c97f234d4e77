"""One model of a user: where it comes from, and what it is exported with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from seqport.exporters import Artifact, export
from seqport.pipeline.errors import PipelineError
from seqport.pipeline.project.modules import own_files
from seqport.pipeline.project.source import imports_of_its_own, is_importable, load_source
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

    def run(self, folder: Path, made_from: Callable[[list[Path]], None] = lambda _: None) -> Artifact:
        """Make the model, give it its weights and export it.

        Args:
            folder: the project's.
            made_from: called with every file that the model is made from, before the export.

        Raises:
            PipelineError: the source, the weights or an example cannot be read, or do not fit.
            ExportError: the model cannot be exported.
        """
        inputs = [parse_input(text) for text in self.inputs] or None
        example = {name: read_array(folder / path) for name, path in self.example.items()} or None
        if self.weights and not is_importable(self.source):
            raise PipelineError(f"{self.source} is a saved model with weights of its own: leave {self.weights} out")
        with imports_of_its_own():
            model, module = load_source(self.source, self.arguments, folder)
            made_from([*self.files(folder), *([] if module is None else own_files(module))])
            if self.weights:
                load_weights(model, folder / self.weights)
            return self._exported(model, folder / self.target, inputs, example)

    def _exported(self, model: Any, target: Path, inputs: Any, example: Any) -> Artifact:
        """Export into a folder that is made for it, and taken away again where the export fails."""
        new = [parent for parent in target.parents if not parent.exists()]
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            return export(model, target, inputs, list(self.outputs) or None, example, **self.options)
        except BaseException:
            for parent in new:
                parent.rmdir()
            raise

    def files(self, folder: Path) -> list[Path]:
        """Every file that the recipe names: the saved model, weights, examples and what it depends on."""
        named = [*([self.weights] if self.weights else []), *self.example.values()]
        if not is_importable(self.source):
            named.append(self.source)
        paths = [folder / name for name in named]
        for pattern in self.depends:
            paths += _matching(folder, pattern)
        whole = [sorted(path.rglob("*")) if path.is_dir() else [path] for path in paths]
        return list(dict.fromkeys(path for several in whole for path in several if not path.is_dir()))


def _matching(folder: Path, pattern: str) -> list[Path]:
    """What a pattern stands for.

    Raises:
        PipelineError: it is none, or stands for nothing: a change of what was meant would go unseen.
    """
    try:
        found = sorted(folder.glob(pattern))
    except (NotImplementedError, ValueError) as error:  # an absolute or empty pattern
        raise PipelineError(f"depends {pattern!r} is no pattern of files below {folder}: {error}") from error
    if not found:
        raise PipelineError(f"depends {pattern!r} matches no file below {folder}")
    return found
