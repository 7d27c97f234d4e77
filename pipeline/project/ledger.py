"""What the artifacts of a project were made from, by content: so that only what changed is exported again."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from seqport.pipeline.project.recipe import Recipe

FILE_NAME = ".seqport-build.json"
# An artifact may come out otherwise with another version of any of these.
_TOOLS = ("seqport", "numpy", "onnx", "onnx-ir", "onnxscript", "onnxruntime", "onnxruntime-gpu")
_FRAMEWORKS = ("torch", "tensorflow", "keras", "tf-keras", "tf2onnx")


class Ledger:
    """The record of a project's builds, in the folder of its artifacts.

    Args:
        folder: the project's, which recorded paths are relative to.
        output: the folder of the artifacts.
    """

    def __init__(self, folder: Path, output: Path) -> None:
        self._folder, self._path = folder.resolve(), output / FILE_NAME
        try:
            entries = json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            entries = None
        # None yet, or damaged: everything is built again.
        self._entries: dict[str, Any] = entries if isinstance(entries, dict) else {}

    def is_current(self, recipe: Recipe) -> bool:
        """Whether the artifact is what this recipe would make: same recipe, files and tools, and itself untouched."""
        entry = self._entries.get(recipe.name)
        if not isinstance(entry, dict) or entry.get("recipe") != _recipe_hash(recipe):
            return False
        named = {self._relative(path) for path in recipe.files(self._folder)}
        files: dict[str, str] = {**entry["made_from"], **entry["artifact"]}
        return named <= set(files) and all(_hash_of(self._folder / name) == known for name, known in files.items())

    def hashes(self, files: Iterable[Path]) -> dict[str, str]:
        """Every file, by its content."""
        return {self._relative(path): _hash_of(path) for path in files}

    def record(self, recipe: Recipe, made_from: Mapping[str, str], artifact: Mapping[str, str]) -> None:
        """Note what an artifact was made from, at once on disk."""
        self._entries[recipe.name] = {
            "recipe": _recipe_hash(recipe),
            "made_from": dict(made_from),
            "artifact": dict(artifact),
        }
        temporary = self._path.with_suffix(".part")
        temporary.write_text(json.dumps(self._entries, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        temporary.replace(self._path)

    def _relative(self, path: Path) -> str:
        path = path if path.is_absolute() else self._folder / path
        path = path.resolve()
        return str(path.relative_to(self._folder)) if path.is_relative_to(self._folder) else str(path)


def _recipe_hash(recipe: Recipe) -> str:
    tools = {"python": sys.version.split()[0], **{name: _version(name) for name in _TOOLS + _FRAMEWORKS}}
    text = json.dumps([asdict(recipe), tools], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _hash_of(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""  # a file that is gone equals none that was
