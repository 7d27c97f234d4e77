"""Whose code it is: the user's own, or a library's, which compares numbers for reasons of its own."""

from __future__ import annotations

import os
import sysconfig
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

import seqport.errors


def _folder(path: str | Path) -> str:
    """With a separator behind it: torchaudio/ is not below torch/."""
    return f"{path}{os.sep}"


_INSTALLED = _folder(sysconfig.get_path("purelib"))
_STANDARD = (_folder(sysconfig.get_path("stdlib")), "<frozen")
_FRAMEWORKS = tuple(
    _folder(Path(spec.origin).parent)
    for name in ("torch", "tensorflow", "keras", "tf_keras", "numpy")
    if (spec := find_spec(name)) is not None and spec.origin is not None
)
_SEQPORT = _folder(Path(seqport.errors.__file__ or "").parent)
# Models of ours are like any user's.
_MODELS = _folder(f"{_SEQPORT}models")
_NOT_THE_USERS = frozenset({"torch", "tensorflow", "keras", "tf_keras", "typing", "abc"})


def is_library(path: str) -> bool:
    """Whether a file is a framework's, NumPy's or seqport's own."""
    return path.startswith(_FRAMEWORKS) or (path.startswith(_SEQPORT) and not path.startswith(_MODELS))


def is_users(path: str) -> bool:
    """Whether a file is the user's: one that leads here, or of any other package that is installed."""
    return not is_library(path) and (path.startswith(_INSTALLED) or not path.startswith(_STANDARD))


def of_users(item: Any) -> bool:
    """Whether a class or function comes from the user's code; one that was made by `exec` says of no module."""
    module = getattr(item, "__module__", None)
    return not isinstance(module, str) or module.partition(".")[0] not in _NOT_THE_USERS


def filled(cells: Any) -> list[Any]:
    """What the cells of a closure hold, names left out that are not bound yet."""
    found = []
    for cell in cells or ():
        try:
            found.append(cell.cell_contents)
        except ValueError:
            continue
    return found


def is_tensor(item: Any) -> bool:
    """Whether it is a tensor or a variable of any framework; arrays of NumPy are none."""
    return hasattr(item, "__array__") and not isinstance(item, (np.ndarray, np.generic, int, float))
