"""Operators that ONNX Runtime computes otherwise than ONNX defines them, in a form that it computes right.

Needs: a lowered graph. Guarantees: no Clip, Relu, Sign, Min or Max of an int64 input's elements; comparisons, which
look at all 64 bits, choose in their place. ONNX Runtime 1.31 takes 2**31 + 5 for a negative number in all five. Lengths
stay as they are: none is that long, and the runtime knows their usual forms. And every Clip of floats has both bounds:
ONNX Runtime takes a missing one for the largest number, to which it then cuts infinity.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from seqport.exporters.passes.builder import Builder, replace
from seqport.exporters.passes.draws import is_per_row
from seqport.exporters.passes.job import Job
from seqport.exporters.passes.roles import sizes_sources, upstream

_FLOATS = frozenset({ir.DataType.FLOAT16, ir.DataType.FLOAT, ir.DataType.DOUBLE})


def write_exactly(job: Job) -> None:
    """Write them so."""
    for node in list(job.model.graph.all_nodes()):
        if node.op_type == "Clip" and node.domain == "":
            _close(node)
    lengths = sizes_sources(job.model)
    elements = {item.name for item in job.capture.inputs if not (is_per_row(item) and item.name in lengths)}
    for node in list(job.model.graph):
        write = _FORMS.get(node.op_type) if node.domain == "" else None
        value = node.inputs[0] if write else None
        if write is None or value is None or value.dtype != ir.DataType.INT64 or not upstream(value) & elements:
            continue
        written = write(Builder(node, node.name or node.op_type), node)
        replace(job.model.graph, node.outputs[0], written, node)
        job.model.graph.remove(node, safe=True)


def _close(clip: ir.Node) -> None:
    """Give a Clip of floats the bound that it lacks."""
    value, low, high = (*clip.inputs, None, None)[:3]
    assert value is not None
    dtype = next((each.dtype for each in (value, low, high) if each is not None and each.dtype is not None), None)
    if dtype is None or dtype not in _FLOATS or (low is None) == (high is None):
        return
    build = Builder(clip, clip.name or "Clip")
    clip.resize_inputs(3)
    bound = build.const(-np.inf if low is None else np.inf, dtype.numpy(), "bound")
    clip.replace_input_with(1 if low is None else 2, bound)


def _chosen(build: Builder, compare: str, one: ir.Value, other: ir.Value) -> ir.Value:
    """Of two values the one that is less, or greater."""
    value = build.op("Where", build.op(compare, one, other), one, other)
    value.dtype = ir.DataType.INT64
    return value


def _clip(build: Builder, node: ir.Node) -> ir.Value:
    value, low, high = (*node.inputs, None, None)[:3]
    assert value is not None
    if low is not None:
        value = _chosen(build, "Greater", value, low)
    return value if high is None else _chosen(build, "Less", value, high)


def _relu(build: Builder, node: ir.Node) -> ir.Value:
    assert node.inputs[0] is not None
    return _chosen(build, "Greater", node.inputs[0], build.const(0, np.int64, "zero"))


def _sign(build: Builder, node: ir.Node) -> ir.Value:
    assert node.inputs[0] is not None
    below = _chosen(build, "Less", node.inputs[0], build.const(1, np.int64, "one"))
    return _chosen(build, "Greater", below, build.const(-1, np.int64, "minus_one"))


def _extreme(compare: str) -> Callable[[Builder, ir.Node], ir.Value]:
    def write(build: Builder, node: ir.Node) -> ir.Value:
        first, *others = [value for value in node.inputs if value is not None]
        for other in others:
            first = _chosen(build, compare, first, other)
        return first

    return write


_FORMS: dict[str, Callable[[Builder, ir.Node], ir.Value]] = {
    "Clip": _clip,
    "Relu": _relu,
    "Sign": _sign,
    "Min": _extreme("Less"),
    "Max": _extreme("Greater"),
}
