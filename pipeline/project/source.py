"""A user's model from its name: `module:attribute`, `file.py:attribute`, or the path of a saved model."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from seqport.errors import SeqportError
from seqport.exporters.errors import ExportError
from seqport.exporters.frontends.choose import frontend_for
from seqport.pipeline.errors import PipelineError
from seqport.pipeline.project.modules import forget_own


@contextmanager
def imports_of_its_own() -> Iterator[None]:
    """Within this block a user's modules are imported afresh, and forgotten at its end.

    Two models may each have a `helpers.py` beside them, and a model that a module holds may be changed (given
    weights) for one artifact and not for the next.
    """
    path, known = list(sys.path), set(sys.modules)
    try:
        yield
    finally:
        sys.path[:] = path
        forget_own(known)


def is_importable(source: str) -> bool:
    """Whether a source names something in a Python module, and not a path."""
    return ":" in source


def load_source(source: str, arguments: Mapping[str, Any], folder: Path) -> tuple[Any, ModuleType | None]:
    """The model that a source names, and the module that it came from.

    Args:
        source: `module:attribute`, `file.py:attribute`, or the path of a saved model. The attribute is a model, or
            is called to get one.
        arguments: keyword arguments of that call.
        folder: where modules and paths are looked for first.

    Raises:
        PipelineError: there is no such thing, it fails, or it gives no model; says which.
    """
    if not is_importable(source):
        path = folder / source
        if not path.exists():
            raise PipelineError(f"{path} does not exist: expected a saved model, or MODULE:ATTRIBUTE")
        if arguments:
            raise PipelineError(f"{source} is a saved model and takes no arguments: {', '.join(arguments)}")
        return path, None
    name, _, attribute = source.rpartition(":")
    if not name or not attribute:
        raise PipelineError(f"{source!r} names no model: expected MODULE:ATTRIBUTE, as in 'my_package.tagging:build'")
    module = _module(name, folder)
    found: Any = module
    for part in attribute.split("."):
        if not hasattr(found, part):
            public = ", ".join(key for key, value in vars(module).items() if _is_own(value, module)) or "nothing"
            raise PipelineError(f"{name} has no attribute {attribute!r}: it defines {public}")
        found = getattr(found, part)
    return _model(found, source, arguments), module


def _is_own(value: Any, module: ModuleType) -> bool:
    return callable(value) and getattr(value, "__module__", None) == module.__name__


def _module(name: str, folder: Path) -> ModuleType:
    """Import a module, by name or by its file; the folder goes first, as with `python -m`."""
    place = str(folder.resolve())
    if place not in sys.path:
        sys.path.insert(0, place)
    try:
        if not name.endswith(".py"):
            return importlib.import_module(name)
        return _module_of_file(folder / name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise PipelineError(f"there is no module {error.name!r}: looked in {place} and on Python's path") from error
        raise PipelineError(f"{name} imports {error.name!r}, which is not installed") from error
    except SeqportError:
        raise
    except (Exception, SystemExit) as error:
        raise _failed(f"importing {name}", error) from error


def _module_of_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise PipelineError(f"{path} does not exist: expected a Python file")
    own = str(path.resolve().parent)
    if own not in sys.path:
        sys.path.insert(0, own)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # dataclasses and pickles look their module up by name
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[path.stem]
        raise
    return module


def _model(found: Any, source: str, arguments: Mapping[str, Any]) -> Any:
    if _is_model(found):
        if arguments:
            raise PipelineError(f"{source} is a model already and takes no arguments: {', '.join(arguments)}")
        return found
    if not callable(found):
        raise PipelineError(f"{source} is a {type(found).__name__}: expected a model, or a function that returns one")
    try:
        made = found(**arguments)
    except (Exception, SystemExit) as error:
        raise _failed(f"calling {source}", error) from error
    if not _is_model(made):
        raise PipelineError(f"{source} returned a {type(made).__name__}: expected a model of PyTorch or TensorFlow")
    return made


def _is_model(value: Any) -> bool:
    try:
        frontend_for(value)
    except ExportError:
        return False
    return True


def _failed(what: str, error: BaseException) -> PipelineError:
    """The error of the user's own code, with the place where it was raised; a wrong call has none."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename != __file__]
    place = f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""
    return PipelineError(f"{what} failed: {type(error).__name__}: {error}{place}")
