"""The two Keras libraries that a model may come from, Keras 3 and tf_keras, and what they spell differently."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import keras

from seqport.exporters.frontends.tensorflow.noting import sizes_in


def libraries() -> list[Any]:
    """The packages in use: Keras 3, and tf_keras where somebody has imported it."""
    legacy = sys.modules.get("tf_keras")
    return [keras] if legacy is None else [keras, legacy]


def is_legacy(model: Any) -> bool:
    """Whether a model or layer is one of tf_keras."""
    legacy = sys.modules.get("tf_keras")
    return legacy is not None and isinstance(model, legacy.layers.Layer)


def layers_of(model: Any) -> list[Any]:
    """A model's layers, however deep."""
    return list(model._flatten_layers())


def has_users_code(model: Any) -> bool:
    """Whether Python code that is neither library's runs when the model does: a class or a function of the user's."""
    own = {library.__name__ for library in libraries()}
    classes = [type(layer).__module__.partition(".")[0] for layer in layers_of(model)]
    return not own.issuperset(classes) or any(is_a(layer, "Lambda") for layer in layers_of(model))


def is_a(layer: Any, name: str) -> bool:
    """Whether a layer is of the class of this name, of either library."""
    return isinstance(layer, tuple(getattr(library.layers, name) for library in libraries()))


def path_of(layer: Any) -> str:
    """The user's name of a layer, with those of the layers around it where the library knows them."""
    return str(getattr(layer, "path", layer.name))


def shapes_noted() -> list[tuple[Any, str, Callable[[Any], Any]]]:
    """The libraries' functions of a tensor's shape, each with one whose sizes note."""
    owners = [(keras.ops, "shape"), *((library.backend, "int_shape") for library in libraries())]
    return [(owner, name, _noting(getattr(owner, name))) for owner, name in owners if hasattr(owner, name)]


def _noting(shape: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda x: sizes_in(shape(x))
