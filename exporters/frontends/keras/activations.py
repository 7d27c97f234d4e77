"""Activations by what they compute: a Keras function, layer or lambda as ONNX's recurrent operators spell it.

Names say little (hard_sigmoid has the slope 1/6 in Keras 3 and 1/5 in tf_keras, a lambda has none), so the function is
run on points that tell ONNX's activations apart, and taken for the one whose values it gives.
https://onnx.ai/onnx/operators/onnx__LSTM.html
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

# Dense where activations bend, and far out, where those that are cut off show.
_FAR = np.array([10.0, 30.0, 100.0, 1e3, 1e4])
_POINTS = np.concatenate([np.linspace(-8.0, 8.0, 641), _FAR, -_FAR])
_TOLERANCE = 1e-6  # relative; a layer computes in float32 whatever it is given

_At = Callable[[float], float]
_Family = tuple[str, Callable[[_At], tuple[float, ...]], Callable[..., np.ndarray]]


def _scaled_tanh(at: _At) -> tuple[float, float]:
    alpha = at(1e4)
    return alpha, float(np.arctanh(at(0.25) / alpha) / 0.25)


# ONNX's name, its alpha and beta read off values of the function, and what it computes with them.
_FAMILIES: tuple[_Family, ...] = (
    ("Tanh", lambda _: (), np.tanh),
    ("Sigmoid", lambda _: (), lambda x: 0.5 * (1 + np.tanh(0.5 * x))),
    ("Relu", lambda _: (), lambda x: np.maximum(x, 0)),
    ("Affine", lambda at: (at(1) - at(0), at(0)), lambda x, a, b: a * x + b),
    ("HardSigmoid", lambda at: ((at(0.25) - at(-0.25)) * 2, at(0)), lambda x, a, b: np.clip(a * x + b, 0, 1)),
    ("LeakyRelu", lambda at: (-at(-1),), lambda x, a: np.where(x < 0, a * x, x)),
    ("Elu", lambda at: (at(-1) / float(np.expm1(-1)),), lambda x, a: np.maximum(x, 0) + a * np.expm1(np.minimum(x, 0))),
    ("Softsign", lambda _: (), lambda x: x / (1 + np.abs(x))),
    ("Softplus", lambda _: (), lambda x: np.logaddexp(0, x)),
    ("ScaledTanh", _scaled_tanh, lambda x, a, b: a * np.tanh(b * x)),
)

# What a refusal names: Keras's functions that pass.
KNOWN = "tanh, sigmoid, relu, leaky_relu, elu, hard_sigmoid, linear, softsign, a scaled tanh"


def onnx_activation(function: Any, num_hidden_units: int) -> str | None:
    """The activation as a `RecurrentCall` has it, or None where ONNX has none that computes the same."""
    values = _values(function, num_hidden_units)
    if values is None:
        return None

    def at(point: float) -> float:
        return float(values[int(np.argmin(np.abs(_POINTS - point)))])

    for name, numbers_of, compute in _FAMILIES:
        with np.errstate(all="ignore"):
            numbers = tuple(_shortest(number) for number in numbers_of(at))
            expected = compute(_POINTS, *numbers)
        if _close(values, expected):
            return ":".join([name, *map(repr, numbers)])
    return None


def _values(function: Any, num_hidden_units: int) -> np.ndarray | None:
    """The function at all points; None where it is no function of one element alone, such as a softmax."""
    # A row holds other points in every column, so that what mixes the elements of a row shows.
    shifts = [column * len(_POINTS) // num_hidden_units for column in range(num_hidden_units)]
    points = np.stack([np.roll(_POINTS, shift) for shift in shifts], axis=1)
    try:
        with tf.init_scope():  # at once, though a model is being traced
            found = np.asarray(function(tf.constant(points)), np.float64)
    except Exception:  # it takes other shapes or types than a cell gives it: not a function of elements
        return None
    if found.shape != points.shape:
        return None
    columns = [np.roll(found[:, column], -shift) for column, shift in enumerate(shifts)]
    return columns[0] if all(_close(column, columns[0]) for column in columns) else None


def _close(found: np.ndarray, expected: np.ndarray) -> bool:
    return bool(np.all(np.abs(found - expected) <= _TOLERANCE * np.maximum(1, np.abs(expected))))


def _shortest(number: float) -> float:
    """The number that a user would have written: ONNX keeps float32, and what was read off values is rounded."""
    return float(str(np.float32(number)))
