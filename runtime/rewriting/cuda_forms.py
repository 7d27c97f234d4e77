"""Writes recurrent nodes that CUDA has no kernel for as a form that stays on the GPU.

Needs: opset 13 or later, float32 weights, steps on the first axis (layout=0).
Does: RNN, GRU or LSTM → one MatMul for the inputs of all steps, then one Scan over the steps, both directions at
    once, of a Gemm and elementwise operators, all of which ONNX Runtime has CUDA kernels for.
Guarantees: the same outputs as ONNX Runtime's CPU node, padded steps and rows of length zero included.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import onnx
from onnx import TensorProto

from seqport.runtime.cudnn import QUANTISED_LSTM, beyond_cudnn
from seqport.runtime.rewriting.cells import activations
from seqport.runtime.rewriting.scan_form import GATES, ScanForm, attributes_of, directions_of

_FIRST_OPSET = 13  # Split and Unsqueeze take their sizes and axes as inputs
_W = 1  # position among the inputs

# A node's reasons to be rewritten; empty where it is to stay as it is.
Reasons = Callable[[onnx.NodeProto], list[str]]


@dataclass
class CudaForms:
    """What became of a model's recurrent nodes.

    Attributes:
        rewritten: the name of each node that was rewritten, and what cuDNN does not know of it.
        left: the name of each node that still falls to the CPU, and why.
    """

    rewritten: dict[str, list[str]] = field(default_factory=dict)
    left: dict[str, list[str]] = field(default_factory=dict)


def beyond(node: onnx.NodeProto) -> list[str]:
    """What of a node cuDNN does not compute; empty for any other node."""
    domains = ("", "ai.onnx") if node.op_type in GATES else ("com.microsoft",)
    if node.domain not in domains or node.op_type not in (*GATES, QUANTISED_LSTM):
        return []
    return beyond_cudnn(node.op_type, attributes_of(node), list(node.input))


def for_cuda(
    path: Path, model: bytes | None, *, rewrite: bool
) -> tuple[bytes | None, dict[str, list[str]], dict[str, list[str]]]:
    """A model for CUDA: the bytes to open in the file's place, and what was rewritten and what is left, as `CudaForms`.

    Args:
        path: an ONNX file.
        model: bytes that stand in its place; None for the file.
        rewrite: whether to rewrite; else the nodes are only named.
    """
    try:
        # The weights beside the file stay there.
        loaded = onnx.load(path, load_external_data=False) if model is None else onnx.load_from_string(model)
    except Exception:  # no ONNX model: ONNX Runtime says what is wrong with it
        return model, {}, {}
    found = keep_on_gpu(loaded) if rewrite else CudaForms({}, _left_to_the_cpu(loaded))
    return loaded.SerializeToString() if found.rewritten else model, found.rewritten, found.left


def _left_to_the_cpu(model: onnx.ModelProto) -> dict[str, list[str]]:
    left: dict[str, list[str]] = {}
    for graph in _graphs(model.graph):
        for node in graph.node:
            why = beyond(node)
            if why:
                left[_free(node.name or node.op_type, left)] = why
    return left


def keep_on_gpu(model: onnx.ModelProto, reasons: Reasons = beyond) -> CudaForms:
    """Rewrite, in place, each recurrent node that CUDA has no kernel for, those in subgraphs too.

    Args:
        model: the weights of its initializers need not be loaded.
        reasons: which nodes, and why.
    """
    opset = max((item.version for item in model.opset_import if item.domain in ("", "ai.onnx")), default=0)
    found = CudaForms()
    for graph in _graphs(model.graph):
        types = {tensor.name: tensor.data_type for tensor in graph.initializer}
        nodes: list[onnx.NodeProto] = []
        before = len(found.rewritten)
        for node in graph.node:
            why = reasons(node)
            if not why:
                nodes.append(node)
                continue
            name = _free(node.name or node.op_type, {*found.rewritten, *found.left})
            obstacle = _obstacle(node, opset, types)
            if obstacle:
                found.left[name] = [*why, obstacle]
                nodes.append(node)
            else:
                found.rewritten[name] = why
                nodes.extend(ScanForm(node, name).nodes())
        if len(found.rewritten) > before:
            del graph.node[:]
            graph.node.extend(nodes)
    return found


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    # Inner graphs first: an outer one's list of nodes is written anew, with copies of them.
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs) if attribute.HasField("g") else attribute.graphs:
                yield from _graphs(inner)
    yield graph


def _free(name: str, taken: Collection[str]) -> str:
    return name if name not in taken else _free(f"{name}_{len(taken)}", taken)


def _obstacle(node: onnx.NodeProto, opset: int, types: Mapping[str, int]) -> str:
    """Why a node has no such form; empty where it has."""
    attributes = attributes_of(node)
    if node.op_type not in GATES:
        return f"{node.op_type} has no other form"
    if opset < _FIRST_OPSET:
        return f"opset {opset} is too old to rewrite it ({_FIRST_OPSET} is the first)"
    if attributes.get("layout", 0):
        return "layout=1 is not rewritten"
    if types.get(node.input[_W], TensorProto.FLOAT) != TensorProto.FLOAT:
        return f"its weights are {TensorProto.DataType.Name(types[node.input[_W]]).lower()}, not float32"
    if activations(node.op_type, attributes, directions_of(attributes)) is None:
        return f"the activations {', '.join(attributes['activations'])} are not all ONNX's"
    return ""
