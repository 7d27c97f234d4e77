"""The weights of a network, seeded, and as each framework wants them."""

from __future__ import annotations

import numpy as np

from seqport.pipeline.bench.cases import CELLS, INPUT_DIM, Network

GATES = {"lstm": 4, "gru": 3, "rnn": 1}
# The order of the gates: an LSTM's is the same in both (i, f, g, o); a GRU's is r, z, n in PyTorch, z, r, n in Keras.
_KERAS_GATES = {"lstm": (0, 1, 2, 3), "gru": (1, 0, 2), "rnn": (0,)}


def pytorch_weights(network: Network) -> dict[str, np.ndarray]:
    """The parameters of `nn.LSTM`, `nn.GRU` or `nn.RNN` by name, drawn as PyTorch draws its own.

    The same on every machine, so that an artifact made on one is raced against a module built on another.
    """
    H = network.num_hidden_units
    rng = np.random.default_rng([CELLS.index(network.cell), H, network.directions])
    rows, bound = GATES[network.cell] * H, H**-0.5
    shapes = {"weight_ih": (rows, INPUT_DIM), "weight_hh": (rows, H), "bias_ih": (rows,), "bias_hh": (rows,)}
    return {
        f"{name}_l0{suffix}": rng.uniform(-bound, bound, shape).astype(np.float32)
        for suffix in ("", "_reverse")[: network.directions]
        for name, shape in shapes.items()
    }


def keras_weights(network: Network) -> list[np.ndarray]:
    """The same for `set_weights` of a Keras layer: kernel, recurrent kernel and bias of each direction."""
    found: list[np.ndarray] = []
    arrays = pytorch_weights(network)
    for suffix in ("", "_reverse")[: network.directions]:
        W_ih, W_hh, b_ih, b_hh = (
            _reordered(network.cell, arrays[f"{name}_l0{suffix}"])
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        # Keras's GRU keeps both biases, because its reset gate acts after the product; the others add theirs.
        bias = np.stack([b_ih, b_hh]) if network.cell == "gru" else b_ih + b_hh
        found += [W_ih.T, W_hh.T, bias]
    return found


def _reordered(cell: str, array: np.ndarray) -> np.ndarray:
    """The gates in Keras's order, [gates * H, ...]."""
    gates = np.split(array, GATES[cell])
    return np.concatenate([gates[index] for index in _KERAS_GATES[cell]])
