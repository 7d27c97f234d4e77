"""Weights in the layout of nn.Embedding, nn.RNN, nn.GRU, nn.LSTM and nn.Linear.

PyTorch stacks the gates along the first axis, a GRU's as r, z, n and an LSTM's as i, f, g, o, and adds two
biases where the notation has one: b_h goes into bias_ih, and bias_hh is zero but for b_hh_n of a GRU.
https://docs.pytorch.org/docs/stable/generated/torch.nn.GRU.html and torch.nn.LSTM.html, "Variables".
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from seqport.models.part import Cell, Part, RecurrentLayer

_ORDER: dict[Cell, tuple[str, ...]] = {
    "rnn": ("",),
    "gru": ("_r", "_z", "_n"),
    "lstm": ("_i", "_f", "_g", "_o"),
}


def to_pytorch(part: Part, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The state dict of the module that `seqport.models.pytorch` builds of `part`."""
    state = {theirs: arrays[ours] for ours, theirs in _plain(part).items()}
    for layer in part.layers():
        W_hx, W_hh, b_h = (
            np.concatenate([arrays[f"{layer.prefix}.{name}{gate}"] for gate in _ORDER[part.cell]])
            for name in ("W_hx", "W_hh", "b_h")
        )
        names = _layer_names(part, layer)
        state |= {names["W_hx"]: W_hx, names["W_hh"]: W_hh, names["b_h"]: b_h}
        if "b_hh" in names:
            b_hh = np.zeros_like(b_h)
            if part.has_inner_bias:
                b_hh[-part.num_hidden_units :] = arrays[f"{layer.prefix}.b_hh_n"]
            state[names["b_hh"]] = b_hh
    return state


def from_pytorch(part: Part, state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The neutral arrays of a state dict.

    Two biases that training has moved apart are added in float64 and rounded once; only a GRU's gate n,
    where the second one lies inside the reset product, keeps both.
    """
    arrays = {ours: state[theirs] for ours, theirs in _plain(part).items()}
    gates = _ORDER[part.cell]
    for layer in part.layers():
        names = _layer_names(part, layer)
        for name in ("W_hx", "W_hh", "b_h"):
            for gate, array in zip(gates, np.split(state[names[name]], len(gates)), strict=True):
                arrays[f"{layer.prefix}.{name}{gate}"] = array
        if "b_hh" not in names:
            continue
        for gate, b_hh in zip(gates, np.split(state[names["b_hh"]], len(gates)), strict=True):
            if part.has_inner_bias and gate == "_n":
                arrays[f"{layer.prefix}.b_hh_n"] = b_hh
            else:
                b_ih = arrays[f"{layer.prefix}.b_h{gate}"]
                arrays[f"{layer.prefix}.b_h{gate}"] = (b_ih.astype(np.float64) + b_hh).astype(np.float32)
    return arrays


def _plain(part: Part) -> dict[str, str]:
    """The weights that are the same in both layouts: our name to theirs."""
    names = {}
    if part.vocab_size is not None:
        names[f"{part.name}.embedding"] = "embedding.weight"
    if part.out_dim is not None:
        names |= {f"{part.name}.W_oh": "head.weight", f"{part.name}.b_o": "head.bias"}
    return names


def _layer_names(part: Part, layer: RecurrentLayer) -> dict[str, str]:
    if part.cell == "gru" and part.reset_gate == "before":
        prefix = f"recurrent.{layer.index}.directions.{part.directions.index(layer.direction)}"
        return {name: f"{prefix}.{name}" for name in ("W_hx", "W_hh", "b_h")}
    suffix = f"l{layer.index}" + ("_reverse" if layer.direction == "backward" else "")
    return {
        "W_hx": f"recurrent.weight_ih_{suffix}",
        "W_hh": f"recurrent.weight_hh_{suffix}",
        "b_h": f"recurrent.bias_ih_{suffix}",
        "b_hh": f"recurrent.bias_hh_{suffix}",
    }
