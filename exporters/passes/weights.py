"""Recurrent weights of any framework, laid out as ONNX's RNN, GRU and LSTM want them.

Needs: the weight inputs of a neutral node. Guarantees: W [D, G*H, input_dim], R [D, G*H, H] and
B [D, 2*G*H] in ONNX's order of gates; initializers where the weights are constants (as nearly
always), else the few ops that lay computed weights out at run time; and an LSTM's P [D, 3*H] where it has peepholes.
https://onnx.ai/onnx/operators/onnx__LSTM.html
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from seqport.exporters.passes.builder import Builder, constant
from seqport.exporters.recurrent import CELLS, WEIGHTS_PER_DIRECTION, RecurrentCall

Native = tuple[ir.Value | None, ...]
# Weights already laid out, by the identity of their sources: a layer called twice keeps one copy.
Cache = dict[tuple[object, ...], Native]


def native_weights(build: Builder, call: RecurrentCall, weights: Sequence[ir.Value | None], cache: Cache) -> Native:
    """W, R and B of a native node, and P where it has peepholes; B is None where no direction has a bias.

    Args:
        build: where computed weights are laid out.
        call: names the framework's layout.
        weights: W_hx, W_hh, b_hx, b_hh (and P) of each direction.
        cache: shared by all nodes of one model.
    """
    key = (*map(id, weights), call.gate_order, call.transposed)
    if key not in cache:
        count = call.weights_per_direction
        plain = [value for i, value in enumerate(weights) if i % count < WEIGHTS_PER_DIRECTION]
        arrays = [constant(value) for value in plain]
        known = all(a is not None or v is None for a, v in zip(arrays, plain, strict=True))
        laid_out = _folded(build, call, arrays) if known else _computed(build, call, plain)
        cache[key] = (*laid_out, _peepholes(build, call, weights[count - 1 :: count])) if call.peepholes else laid_out
    return cache[key]


def _folded(build: Builder, call: RecurrentCall, arrays: Sequence[np.ndarray | None]) -> Native:
    by_direction = [arrays[i : i + WEIGHTS_PER_DIRECTION] for i in range(0, len(arrays), WEIGHTS_PER_DIRECTION)]
    order = _permutation(call)
    size = call.num_hidden_units

    def blocks(array: np.ndarray) -> np.ndarray:
        parts = array.reshape(len(order), size, *array.shape[1:])
        return np.concatenate([parts[g] for g in order])

    def matrix(array: np.ndarray | None) -> np.ndarray:
        assert array is not None
        return blocks(array.T if call.transposed else array)

    def bias(array: np.ndarray | None, like: np.ndarray) -> np.ndarray:
        return np.zeros(len(order) * size, like.dtype) if array is None else blocks(array)

    W = np.stack([matrix(d[0]) for d in by_direction])
    R = np.stack([matrix(d[1]) for d in by_direction])
    values = [build.const(W, W.dtype, "W"), build.const(R, R.dtype, "R")]
    if all(d[2] is None and d[3] is None for d in by_direction):
        return values[0], values[1], None
    B = np.stack([np.concatenate([bias(d[2], W), bias(d[3], W)]) for d in by_direction])
    return values[0], values[1], build.const(B, B.dtype, "B")


def _computed(build: Builder, call: RecurrentCall, weights: Sequence[ir.Value | None]) -> Native:
    by_direction = [weights[i : i + WEIGHTS_PER_DIRECTION] for i in range(0, len(weights), WEIGHTS_PER_DIRECTION)]
    order = _permutation(call)
    size = call.num_hidden_units
    rows = build.const([g * size + unit for g in order for unit in range(size)], name="gates")

    def blocks(value: ir.Value | None, *, matrix: bool) -> ir.Value:
        if value is None:
            return build.const(np.zeros(len(order) * size), np.float32, "no_bias")
        if matrix and call.transposed:
            value = build.op("Transpose", value, perm=[1, 0])
        return build.op("Gather", value, rows, axis=0)

    def stacked(values: Sequence[ir.Value]) -> ir.Value:
        axis = build.const([0], name="axis")
        parts = [build.op("Unsqueeze", value, axis) for value in values]
        return parts[0] if len(parts) == 1 else build.op("Concat", *parts, axis=0)

    W = stacked([blocks(d[0], matrix=True) for d in by_direction])
    R = stacked([blocks(d[1], matrix=True) for d in by_direction])
    if all(d[2] is None and d[3] is None for d in by_direction):
        return W, R, None
    B = stacked(
        [build.op("Concat", blocks(d[2], matrix=False), blocks(d[3], matrix=False), axis=0) for d in by_direction]
    )
    return W, R, B


def _peepholes(build: Builder, call: RecurrentCall, weights: Sequence[ir.Value | None]) -> ir.Value:
    """P [D, 3*H], which ONNX wants in the order i, o, f."""
    named = [gate for gate in call.gate_order if gate != "g"]
    arrays = [constant(value) for value in weights]
    rows = []
    for array in arrays:
        assert array is not None, "peepholes are constants"
        parts = array.reshape(len(named), call.num_hidden_units)
        rows.append(np.concatenate([parts[named.index(gate)] for gate in "iof"]))
    return build.const(np.stack(rows), rows[0].dtype, "P")


def _permutation(call: RecurrentCall) -> list[int]:
    """Positions of ONNX's gates among the framework's."""
    return [call.gate_order.index(gate) for gate in CELLS[call.cell][1]]
