"""Weights in the layout of Keras 3's Embedding, SimpleRNN, GRU, LSTM, Bidirectional and Dense.

Keras transposes every kernel and stacks the gates along the last axis, a GRU's as z, r, h (our n) and an
LSTM's as i, f, c (our g), o. A GRU with reset_after has a bias of two rows, of the input and of the recurrent
product. https://github.com/keras-team/keras, keras/src/layers/rnn/gru.py (GRUCell.call) and lstm.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from seqport.models.part import Cell, Part

_ORDER: dict[Cell, tuple[str, ...]] = {
    "rnn": ("",),
    "gru": ("_z", "_r", "_n"),
    "lstm": ("_i", "_f", "_g", "_o"),
}


def to_keras(part: Part, arrays: Mapping[str, np.ndarray]) -> dict[str, list[np.ndarray]]:
    """What `set_weights` takes, for each layer of the model that `seqport.models.keras` builds of `part`."""
    layers: dict[str, list[np.ndarray]] = {}
    if part.vocab_size is not None:
        layers["embedding"] = [arrays[f"{part.name}.embedding"]]
    for layer in part.layers():
        W_hx, W_hh, b_h = (
            np.concatenate([arrays[f"{layer.prefix}.{name}{gate}"].T for gate in _ORDER[part.cell]], axis=-1)
            for name in ("W_hx", "W_hh", "b_h")
        )
        if part.has_inner_bias:
            b_hh = np.zeros_like(b_h)
            b_hh[-part.num_hidden_units :] = arrays[f"{layer.prefix}.b_hh_n"]
            b_h = np.stack([b_h, b_hh])
        # A Bidirectional layer lists its forward layer's weights, then its backward layer's.
        layers.setdefault(f"recurrent_{layer.index}", []).extend([W_hx, W_hh, b_h])
    if part.out_dim is not None:
        layers["head"] = [arrays[f"{part.name}.W_oh"].T, arrays[f"{part.name}.b_o"]]
    return layers


def from_keras(part: Part, layers: Mapping[str, Sequence[np.ndarray]]) -> dict[str, np.ndarray]:
    """The neutral arrays of what `get_weights` gives for each layer.

    The two biases of a GRU with reset_after are added in float64 and rounded once, but for its gate n,
    where the second one lies inside the reset product.
    """
    arrays: dict[str, np.ndarray] = {}
    if part.vocab_size is not None:
        (arrays[f"{part.name}.embedding"],) = layers["embedding"]
    gates = _ORDER[part.cell]
    for layer in part.layers():
        start = 3 * part.directions.index(layer.direction)
        W_hx, W_hh, b_h = layers[f"recurrent_{layer.index}"][start : start + 3]
        if part.has_inner_bias:
            *others, arrays[f"{layer.prefix}.b_hh_n"] = np.split(b_h[1], len(gates))
            b_hh = np.concatenate([*others, np.zeros(part.num_hidden_units)])
            b_h = (b_h[0].astype(np.float64) + b_hh).astype(np.float32)
        for name, stacked in (("W_hx", W_hx), ("W_hh", W_hh), ("b_h", b_h)):
            for gate, array in zip(gates, np.split(stacked, len(gates), axis=-1), strict=True):
                arrays[f"{layer.prefix}.{name}{gate}"] = array.T
    if part.out_dim is not None:
        W_oh, arrays[f"{part.name}.b_o"] = layers["head"]
        arrays[f"{part.name}.W_oh"] = W_oh.T
    return arrays
