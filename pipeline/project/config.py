"""`seqport.toml`: a project's models as data.

    output = "build"                      # the folder of the artifacts, "build" where left out

    [models.tagger]
    source = "my_package.tagging:build"   # or file.py:build, a .keras file, a SavedModel folder, a frozen .pb
    arguments = { num_hidden_units = 64 } # of build()
    weights = "weights/tagger.pt"
    inputs = ["ids:int64[batch,seq]", "lengths:int64[batch]"]
    outputs = ["logits"]
    example = { ids = "data/ids.npy" }    # values that the proof draws from
    file = "tagger.onnx"                  # "<name>.onnx" where left out
    depends = ["data/vocabulary.txt"]     # what else the model is made from; globs
    opset = 18
    strict = true
    precision = "float16"                 # or bfloat16, int8-weights, int8-dynamic: see seqport.exporters.Precision
    external_data = true                  # weights beside the file; above 1.5 GB they are where this is left out

Every path is relative to the file's own folder.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seqport.pipeline.errors import PipelineError
from seqport.pipeline.project.recipe import Recipe

FILE_NAME = "seqport.toml"
# Keys that go to `export` as they are, with their types.
OPTIONS: dict[str, type] = {"opset": int, "strict": bool, "precision": str, "external_data": bool}
_STRINGS = ("source", "weights", "file")
_LISTS = ("inputs", "outputs", "depends")
_TABLES = ("arguments", "example")
_KEYS = (*_STRINGS, *_LISTS, *_TABLES, *OPTIONS)


@dataclass(frozen=True)
class Project:
    """The models of one `seqport.toml`.

    Attributes:
        folder: the file's own, which paths are relative to.
        output: the folder of the artifacts.
        recipes: one a model, in the file's order.
    """

    folder: Path
    output: Path
    recipes: tuple[Recipe, ...]


def read_project(path: Path) -> Project:
    """Read a project file, or the one in a folder.

    Raises:
        PipelineError: there is none, it is no TOML, or an entry cannot be understood; says which.
    """
    path = path / FILE_NAME if path.is_dir() else path
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise PipelineError(
            f"{path} does not exist: expected a project file, with a table [models.NAME] a model"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise PipelineError(f"{path} is no TOML: {error}") from error
    _require_known(f"{path}", raw, ("output", "models"))
    models, output = raw.get("models", {}), raw.get("output", "build")
    _require(f"{path}: output", output, str)
    _require(f"{path}: models", models, dict)
    if not models:
        raise PipelineError(f"{path} has no model: expected a table [models.NAME] with a source")
    recipes = tuple(_recipe(f"{path}: models.{name}", name, table, output) for name, table in models.items())
    _require_own_targets(path, recipes)
    return Project(path.parent, path.parent / output, recipes)


def _recipe(where: str, name: str, table: Any, output: str) -> Recipe:
    _require(where, table, dict)
    _require_known(where, table, _KEYS)
    if "source" not in table:
        raise PipelineError(f"{where} has no source: expected 'module:attribute', or the path of a saved model")
    for key in table:
        value, place = table[key], f"{where}.{key}"
        if key in _STRINGS:
            _require(place, value, str)
        elif key in OPTIONS:
            _require(place, value, OPTIONS[key])
        elif key in _TABLES:
            _require(place, value, dict)
        else:
            _require(place, value, list)
            for item in value:
                _require(f"an entry of {place}", item, str)
    for key, value in table.get("example", {}).items():
        _require(f"{where}.example.{key}", value, str)
    return Recipe(
        name=name,
        source=table["source"],
        target=str(Path(output) / table.get("file", f"{name}.onnx")),
        arguments=table.get("arguments", {}),
        weights=table.get("weights"),
        inputs=tuple(table.get("inputs", ())),
        outputs=tuple(table.get("outputs", ())),
        example=table.get("example", {}),
        options={key: table[key] for key in OPTIONS if key in table},
        depends=tuple(table.get("depends", ())),
    )


def _require(where: str, value: Any, kind: type) -> None:
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        names = {str: "a string", dict: "a table", list: "a list", int: "a number", bool: "true or false"}
        raise PipelineError(f"{where} is {value!r}: expected {names[kind]}")


def _require_known(where: str, table: Mapping[str, Any], known: tuple[str, ...]) -> None:
    unknown = [key for key in table if key not in known]
    if unknown:
        raise PipelineError(f"{where} has the unknown key {unknown[0]!r}: expected some of {', '.join(known)}")


def _require_own_targets(path: Path, recipes: tuple[Recipe, ...]) -> None:
    targets = [recipe.target for recipe in recipes]
    twice = next((target for target in targets if targets.count(target) > 1), None)
    if twice is not None:
        raise PipelineError(f"{path}: two models are written to {twice}: give each a file of its own")
