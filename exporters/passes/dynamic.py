"""LSTM and dense layers computed in int8, on activations that are quantised as they come.

Needs: a tidy graph with constant weights. Guarantees: an LSTM became ONNX Runtime's DynamicQuantizeLSTM, which has
one scale for the whole batch, so that any row and any padding may move the others: see `invariance`. A dense
layer became a MatMulInteger with one scale for each row of its input, which nothing outside of that row can move.
Weights are unsigned: with signed ones, processors without VNNI add with saturation, and would answer otherwise.
https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.DynamicQuantizeLSTM
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import onnx_ir as ir

from seqport.exporters.passes.builder import Builder, constant, replace
from seqport.exporters.passes.job import Job
from seqport.exporters.passes.roles import QUANTISED_DOMAIN, QUANTISED_LSTM
from seqport.exporters.passes.stored import SMALLEST, quantised

_ZERO = 128  # unsigned int8 that stands for zero
_STEPS = 127
_AXES_AS_INPUT = 18  # the opset that made it so for ReduceMax
_TINIEST = 1e-30  # a row of zeros is divided by this, not by zero


def compute_in_int8(job: Job) -> list[str]:
    """Lower what can be computed in int8; the names of the LSTM nodes among it."""
    graph, found = job.model.graph, []
    for node in list(graph.all_nodes()):
        if node.domain == "" and node.op_type == "LSTM" and _lstm(node):
            found.append(node.name or "")
        elif (dense := _dense(node)) is not None:
            _lower_dense(node, dense, job.opset)
    if found:
        job.model.opset_imports[QUANTISED_DOMAIN] = 1
    return found


def _unsigned(values: np.ndarray) -> np.ndarray:
    return (values.astype(np.int16) + _ZERO).astype(np.uint8)


def _lstm(node: ir.Node) -> bool:
    """One native node for another; False where its weights are computed, or not float32."""
    W, R = (constant(node.inputs[place]) for place in (1, 2))
    if W is None or R is None or W.dtype != np.float32 or R.dtype != np.float32:
        return False
    build = Builder(node, node.name or "")
    tensors = []
    scales: list[ir.Value] = []
    for name, array in (("W", W), ("R", R)):
        values, scale = quantised(array, (2,))
        tensors.append(build.const(_unsigned(values).transpose(0, 2, 1).copy(), np.uint8, name))  # [D, K, 4*H]
        scale = scale[..., 0]  # [D, 4*H]
        scales.append(build.const(scale, np.float32, f"{name}/scale"))
        scales.append(build.const(np.full(scale.shape, _ZERO), np.uint8, f"{name}/zero"))
    given = [*node.inputs, *[None] * 8][:8]
    given[1:3] = tensors
    attributes = {name: attribute for name, attribute in node.attributes.items() if name != "layout"}
    quantised_node = ir.Node(
        QUANTISED_DOMAIN,
        QUANTISED_LSTM,
        [*given, *scales],
        attributes.values(),
        num_outputs=len(node.outputs),
        name=node.name,
    )
    graph = node.graph
    assert isinstance(graph, ir.Graph)
    graph.insert_before(node, quantised_node)
    for old, new in zip(node.outputs, quantised_node.outputs, strict=True):
        replace(graph, old, new, node)
    graph.remove(node, safe=True)
    return True


class _Dense(NamedTuple):
    """x [..., K] @ weights [K, N] + bias."""

    x: ir.Value
    weights: np.ndarray
    bias: ir.Value | None


def _dense(node: ir.Node) -> _Dense | None:
    if node.domain or node.op_type not in ("MatMul", "Gemm") or node.inputs[0] is None:
        return None
    weights = constant(node.inputs[1])
    if weights is None or weights.ndim != 2 or weights.dtype != np.float32 or weights.size < SMALLEST:
        return None
    if node.op_type == "MatMul":
        return _Dense(node.inputs[0], weights, None)
    attributes = node.attributes
    plain = attributes.get_float("alpha", 1.0) == attributes.get_float("beta", 1.0) == 1.0
    if not plain or attributes.get_int("transA", 0) or constant(node.inputs[0]) is not None:
        return None
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    return _Dense(node.inputs[0], weights.T if attributes.get_int("transB", 0) else weights, bias)


def _lower_dense(node: ir.Node, dense: _Dense, opset: int) -> None:
    build = Builder(node, node.name or "")

    def number(value: float, dtype: type = np.float32) -> ir.Value:
        return build.const(value, dtype, "const")

    values, scale = quantised(dense.weights, (0,))
    size = build.op("Abs", dense.x)
    if opset >= _AXES_AS_INPUT:
        largest = build.op("ReduceMax", size, build.const([-1]), keepdims=1)  # [..., 1]
    else:
        largest = build.op("ReduceMax", size, axes=[-1], keepdims=1)
    step = build.op("Div", build.op("Max", largest, number(_TINIEST)), number(_STEPS))
    rounded = build.op("Round", build.op("Div", dense.x, step))
    small = build.op("Cast", build.op("Add", rounded, number(_ZERO)), to=ir.DataType.UINT8)
    weights = build.const(_unsigned(values), np.uint8, "weights")
    zero = number(_ZERO, np.uint8)
    product = build.op("Cast", build.op("MatMulInteger", small, weights, zero, zero), to=ir.DataType.FLOAT)
    result = build.op("Mul", build.op("Mul", product, step), build.const(scale, np.float32, "scale"))
    if dense.bias is not None:
        result = build.op("Add", result, dense.bias)
    graph = node.graph
    assert isinstance(graph, ir.Graph)
    replace(graph, node.outputs[0], result, node)
    graph.remove(node, safe=True)
