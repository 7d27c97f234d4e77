"""What is right: every model in float64 NumPy, one row and one step at a time, straight from the equations.

It shares no code with what it judges, and has no masks: a row is cut to its length, so padding cannot matter.
σ is the logistic function, ⊙ the product element by element, g the identity, softmax or σ.

    rnn   h_t = f(W_hh h_{t-1} + W_hx x_t + b_h), with f tanh or relu
    gru   r_t = σ(W_hx_r x_t + W_hh_r h_{t-1} + b_h_r)
          z_t = σ(W_hx_z x_t + W_hh_z h_{t-1} + b_h_z)
          n_t = tanh(W_hx_n x_t + W_hh_n (r_t ⊙ h_{t-1}) + b_h_n)               reset gate before the product
          n_t = tanh(W_hx_n x_t + b_h_n + r_t ⊙ (W_hh_n h_{t-1} + b_hh_n))      after it
          h_t = (1 - z_t) ⊙ n_t + z_t ⊙ h_{t-1}
    lstm  i_t = σ(W_hx_i x_t + W_hh_i h_{t-1} + b_h_i), f_t and o_t alike
          g_t = tanh(W_hx_g x_t + W_hh_g h_{t-1} + b_h_g)
          c_t = f_t ⊙ c_{t-1} + i_t ⊙ g_t
          h_t = o_t ⊙ tanh(c_t)
    head  o_t = g(W_oh h_t + b_o)

rnn: Elman, "Finding structure in time", 1990. gru: Cho et al., https://arxiv.org/abs/1406.1078, equations 5 to
8, and https://docs.pytorch.org/docs/stable/generated/torch.nn.GRU.html for the gate after the product.
lstm: Hochreiter and Schmidhuber, "Long short-term memory", 1997; Gers et al., "Learning to forget", 2000.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from seqport.models.errors import SpecError
from seqport.models.part import Part
from seqport.models.spec import ModelSpec

Vector = NDArray[np.float64]
Arrays = Mapping[str, np.ndarray]


def run(model: ModelSpec | Part, weights: Arrays, inputs: Arrays) -> dict[str, NDArray[np.float64]]:
    """The outputs that a model should give.

    Args:
        model: a part, or a specification that has only one.
        weights: the neutral arrays, as `Weights` holds them.
        inputs: an array for each of `part.inputs`. A length of 0 keeps the initial state and gives zeros,
            or for a network with one output, the output of the initial state.

    Returns:
        An array for each of `part.outputs`, zero at padded steps.
    """
    part = _only_part(model) if isinstance(model, ModelSpec) else model
    weights = {name.removeprefix(f"{part.name}."): np.asarray(a, np.float64) for name, a in weights.items()}
    source = inputs["x"] if part.vocab_size is None else inputs["ids"]
    batch, seq = source.shape[:2]

    taken = {tensor.name for tensor in part.inputs}
    zeros = np.zeros((len(part.directions) * part.num_layers, batch, part.num_hidden_units))
    h, c = (np.array(inputs[name] if name in taken else zeros, np.float64) for name in ("h_0", "c_0"))
    steps = np.zeros((batch, seq, part.out_dim or 0))
    last = np.zeros((batch, part.out_dim or 0))

    for row, length in enumerate(inputs["lengths"]):
        kept = source[row, :length]
        x = kept.astype(np.float64) if part.vocab_size is None else weights["embedding"][kept]
        h_t = _layers(part, weights, list(x), h[:, row], c[:, row])  # h and c now hold the row's final states
        if part.out_dim is not None:
            last[row] = _output(part, weights, np.concatenate(h[-len(part.directions) :, row]))
            for t in range(length):
                steps[row, t] = _output(part, weights, h_t[t])

    outputs = {"output": steps if part.every_step else last, "h_T": h, "c_T": c}
    return {name: outputs[name] for name in part.outputs}


def _only_part(spec: ModelSpec) -> Part:
    part, *others = spec.parts()
    if others:
        raise SpecError(f"strategy = {spec.strategy!r} has several parts: run one of ModelSpec.parts()")
    return part


def _layers(part: Part, weights: Arrays, x: list[Vector], h: np.ndarray, c: np.ndarray) -> list[Vector]:
    """Run every layer over one row; h and c, a line for each layer and direction, become the final states."""
    state = 0
    for layer in range(part.num_layers):
        ways = []
        for direction in part.directions:
            prefix = f"layers.{layer}.{direction}."
            cell = {n.removeprefix(prefix): a for n, a in weights.items() if n.startswith(prefix)}
            backward = direction == "backward"
            h_t = []
            for x_t in reversed(x) if backward else x:
                h[state], c[state] = _step(part, cell, x_t, h[state], c[state])
                h_t.append(h[state].copy())
            ways.append(h_t[::-1] if backward else h_t)
            state += 1
        x = [np.concatenate(both) for both in zip(*ways, strict=True)]
    return x


def _step(part: Part, w: Arrays, x_t: Vector, h: Vector, c: Vector) -> tuple[Vector, Vector]:
    """h_t and c_t; c is not used but in an lstm."""

    def product(gate: str) -> Vector:
        return w[f"W_hx_{gate}"] @ x_t + w[f"W_hh_{gate}"] @ h + w[f"b_h_{gate}"]

    if part.cell == "rnn":
        a = w["W_hh"] @ h + w["W_hx"] @ x_t + w["b_h"]
        return np.tanh(a) if part.activation == "tanh" else np.maximum(a, 0.0), c
    if part.cell == "gru":
        r, z = _sigmoid(product("r")), _sigmoid(product("z"))
        if part.reset_gate == "before":
            n = np.tanh(w["W_hx_n"] @ x_t + w["W_hh_n"] @ (r * h) + w["b_h_n"])
        else:
            n = np.tanh(w["W_hx_n"] @ x_t + w["b_h_n"] + r * (w["W_hh_n"] @ h + w["b_hh_n"]))
        return (1 - z) * n + z * h, c
    i, f, o = _sigmoid(product("i")), _sigmoid(product("f")), _sigmoid(product("o"))
    c = f * c + i * np.tanh(product("g"))
    return o * np.tanh(c), c


def _output(part: Part, weights: Arrays, h: Vector) -> Vector:
    o = weights["W_oh"] @ h + weights["b_o"]
    if part.output == "softmax":
        powers = np.exp(o - o.max())
        return powers / powers.sum()
    return _sigmoid(o) if part.output == "sigmoid" else o


def _sigmoid(a: Vector) -> Vector:
    return 0.5 * (1.0 + np.tanh(0.5 * a))  # no overflow, either way
