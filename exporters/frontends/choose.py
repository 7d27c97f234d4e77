"""Which frontend takes a model, found without importing a framework that is not in use."""

from __future__ import annotations

import sys
from collections.abc import Sequence
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
    # A model of a framework cannot exist before the framework was imported.
    torch, keras = sys.modules.get("torch"), sys.modules.get("keras")
    if torch is not None and isinstance(model, torch.nn.Module):
        from seqport.exporters.frontends import pytorch

        return pytorch  # type: ignore[return-value]
    if keras is not None and isinstance(model, keras.Model):
        from seqport.exporters.frontends import keras as keras_frontend

        return keras_frontend  # type: ignore[return-value]
    raise ExportError(
        f"cannot export {type(model).__module__}.{type(model).__qualname__}: "
        "expected a torch.nn.Module or a Keras 3 model"
    )


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
