"""Faults of a model that runs step by step, for all that usual draws and short sequences show."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper

from support.planted_artifacts import Plant, insert, stored


def _instead_of(model: onnx.ModelProto, name: str, result: str, *nodes: onnx.NodeProto) -> None:
    """Every node that read an input reads what these nodes make of it."""
    readers = [node for node in model.graph.node if name in node.input]
    insert(model, next(iter(model.graph.node)), *nodes)
    for node in readers:
        node.input[:] = [result if read == name else read for read in node.input]


def cut_lengths(model: onnx.ModelProto) -> None:
    """What comes after the 300th step is nothing."""
    most = stored(model, "most", np.array(300, np.int64))
    _instead_of(model, "lengths", "cut", helper.make_node("Min", ["lengths", most], ["cut"]))


def look_at_every_step(model: onnx.ModelProto) -> None:
    """Every step sees a little of the mean over all steps."""
    little, axes = stored(model, "little", np.array(1e-2, np.float32)), stored(model, "axes", np.array([1], np.int64))
    nodes = [
        helper.make_node("ReduceSum", ["x", axes], ["sum"]),
        helper.make_node("Mul", ["sum", little], ["some"]),
        helper.make_node("Add", ["x", "some"], ["seen"]),
    ]
    _instead_of(model, "x", "seen", *nodes)


def limit_loud_ones(model: onnx.ModelProto) -> None:
    """A sequence is halved where its largest value, at whatever step, is above 200."""
    loud, half, whole = (stored(model, f"gain {v}", np.array(v, np.float32)) for v in (200.0, 0.5, 1.0))
    axes = stored(model, "axes", np.array([1], np.int64))
    nodes = [
        helper.make_node("ReduceMax", ["x", axes], ["peak"]),
        helper.make_node("Greater", ["peak", loud], ["is loud"]),
        helper.make_node("Where", ["is loud", half, whole], ["gain"]),
        helper.make_node("Mul", ["x", "gain"], ["limited"]),
    ]
    _instead_of(model, "x", "limited", *nodes)


def look_ahead(model: onnx.ModelProto) -> None:
    """Every step sees the next one in its place."""
    one, far, axis = (stored(model, f"at {v}", np.array([v], np.int64)) for v in (1, 2**31, -2))
    pads = stored(model, "pads", np.array([0, 0, 0, 0, 1, 0], np.int64))
    nodes = [
        helper.make_node("Slice", ["x", one, far, axis], ["later"]),
        helper.make_node("Pad", ["later", pads], ["ahead"]),
    ]
    _instead_of(model, "x", "ahead", *nodes)


STREAMS: list[Plant] = [cut_lengths, look_at_every_step, limit_loud_ones, look_ahead]
