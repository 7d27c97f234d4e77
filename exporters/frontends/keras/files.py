"""Models in Keras's own files, `.keras` and `.h5`, loaded by the library that wrote them."""

from __future__ import annotations

import importlib
import importlib.util
import json
import re
import zipfile
from pathlib import Path
from typing import Any

from seqport.exporters.errors import ExportError
from seqport.exporters.frontends.tensorflow.convert import quiet


def load(path: Path) -> Any:
    """The model in a file, without its training configuration and without running code that the file brings.

    A file of Keras 2 is loaded by tf_keras where that is installed: Keras 3 reads it too, but computes some functions
    otherwise (hard_sigmoid's slope is 1/6 there, and was 1/5).

    Raises:
        ExportError: it is no such file, holds only weights, or needs code that only the user has.
    """
    if not path.is_file():
        raise ExportError(f"{path} does not exist: expected a Keras model file (.keras, .h5)")
    legacy = _version(path).startswith("2.") and importlib.util.find_spec("tf_keras") is not None
    name = "tf_keras" if legacy else "keras"
    library = importlib.import_module(name)
    try:
        with quiet():
            return library.models.load_model(str(path), compile=False, safe_mode=True)
    except Exception as error:
        raise ExportError(f"{path} cannot be loaded by {name} {library.__version__}: {_reason(name, error)}") from error


def _version(path: Path) -> str:
    """The version of Keras that wrote a file; empty where it does not say."""
    try:
        if path.suffix == ".keras":
            with zipfile.ZipFile(path) as archive:
                return str(json.loads(archive.read("metadata.json"))["keras_version"])
        import h5py

        with h5py.File(path, "r") as file:
            return str(file.attrs.get("keras_version", ""))
    except (OSError, KeyError, ValueError, zipfile.BadZipFile):
        return ""


def _reason(library: str, error: Exception) -> str:
    """What went wrong, and what to do about it."""
    missing = re.search(r"Could not locate (?:class|function) '[^']+'", str(error))
    said = missing.group() + "." if missing else str(error).strip().split("\n")[0].strip()
    load = f"{library}.models.load_model"
    lower = str(error).lower()
    if "safe_mode" in lower or "unsafe" in lower:
        return f"{said} If you trust it, load it with {load}(path, safe_mode=False), and pass the model"
    if any(sign in lower for sign in ("could not locate", "unknown layer", "unknown object", "custom_objects")):
        return f"{said} Load it with {load}(path, custom_objects={{name: class}}), and pass the model"
    if "no model config" in lower or "weights" in lower:
        return f"{said} It holds weights alone: build the model, call its load_weights, and pass the model"
    return f"{said} Load it yourself, and pass the model"
