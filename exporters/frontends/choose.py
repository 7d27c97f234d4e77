"""Which frontend takes a model, found without importing a framework that is not in use."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from seqport.exporters.arrangement import Arrangement
from seqport.exporters.capture import Capture
from seqport.exporters.errors import ExportError, InputsError
from seqport.exporters.signature import Input


class Frontend(Protocol):
    """What every frontend module offers."""

    @staticmethod
    def known_inputs(model: Any) -> Sequence[Sequence[Input]]:
        """The inputs that the model itself declares; several readings, the likeliest first, where it leaves one open.

        Raises:
            InputsError: it declares none.
        """
        ...

    @staticmethod
    def trace(model: Any, arrangement: Arrangement, outputs: Sequence[str] | None, opset: int) -> Capture:
        """Trace the model with its recurrent layers kept whole."""
        ...


def frontend_for(model: Any) -> Frontend:
    """The frontend that takes this kind of model.

    Raises:
        ExportError: no frontend does.
    """
    if isinstance(model, (str, os.PathLike)):
        return _frontend_for_path(Path(model))
    # A model of a framework cannot exist before the framework was imported.
    if _is_a(model, "torch", "nn.Module") or _is_a(model, "torch", "export.ExportedProgram"):
        from seqport.exporters.frontends import pytorch

        return pytorch  # type: ignore[return-value]
    if _is_a(model, "keras", "Model") or _is_a(model, "tf_keras", "Model"):
        from seqport.exporters.frontends import keras

        return keras  # type: ignore[return-value]
    # A tf.function, and a ConcreteFunction.
    if hasattr(model, "get_concrete_function") or hasattr(model, "structured_input_signature"):
        return _tensorflow()
    if _is_a(model, "tensorflow", "Module") and callable(model):
        return _tensorflow()
    raise ExportError(
        f"cannot export {type(model).__module__}.{type(model).__qualname__}: expected a torch.nn.Module, a Keras or "
        "tf_keras model or the path of its file, a tf.function, a SavedModel folder or a frozen GraphDef (.pb)"
    )


def loaded(model: Any) -> Any:
    """The model in a Keras file (`.keras`, `.h5`), given by its path; anything else as it is.

    Raises:
        ExportError: Keras cannot load it.
    """
    if not isinstance(model, (str, os.PathLike)) or Path(model).suffix not in (".keras", ".h5", ".hdf5"):
        return model
    from seqport.exporters.frontends.keras.files import load

    return load(Path(model))


def _frontend_for_path(path: Path) -> Frontend:
    if path.suffix == ".pb" or (path / "saved_model.pb").exists():
        return _tensorflow()
    raise ExportError(
        f"{path} is no model that can be exported: expected a Keras file (.keras, .h5), a SavedModel folder or a "
        "frozen GraphDef (.pb); load a .pt file first, and pass the model"
    )


def _tensorflow() -> Frontend:
    from seqport.exporters.frontends import tensorflow

    return tensorflow  # type: ignore[return-value]


def _is_a(model: Any, package: str, name: str) -> bool:
    """Whether the model is of a class of a package, which need not be installed."""
    found: Any = sys.modules.get(package)
    for part in name.split("."):
        found = getattr(found, part, None)
    return found is not None and isinstance(model, found)


def declared_inputs(model: Any) -> list[list[Input]]:
    """The inputs of a model that has `input_signature() -> [(name, axes, dtype), ...]`.

    Raises:
        InputsError: it has no such method.
    """
    signature: Any = getattr(model, "input_signature", None)
    if not callable(signature):
        raise InputsError(
            f"inputs is missing, and {type(model).__name__} does not say what it takes: "
            "pass inputs=[Input(name, axes, dtype), ...] in the order of forward"
        )
    declared: Any = signature()
    return [[Input(name, tuple(axes), dtype) for name, axes, dtype in declared]]


def known_outputs(model: Any) -> Sequence[str] | None:
    """The names of a model that has a method `output_names() -> [name, ...]`; None for any other."""
    names: Any = getattr(model, "output_names", None)
    return list(names()) if callable(names) else None  # type: ignore[call-overload]
