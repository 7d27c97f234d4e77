"""Finds what says which steps a model masks: the flags from which its recurrent layers' lengths are counted."""

from __future__ import annotations

import onnx
from onnx import helper

from seqport.runtime.rewriting.reading import SEQUENCE_LENS, Reading, attribute, is_recurrent

_COMPARE = {"Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Equal"}
_FLAGS = _COMPARE | {"Not", "And", "Or", "Xor", "IsNaN", "IsInf"}


_KEEP = {"Transpose", "Identity", "Unsqueeze", "Squeeze", "Reshape", "Expand", "Slice", "Where", "Concat"}
_PREFIX = "stream/mask"


def with_masks(model: onnx.ModelProto) -> list[str]:
    """Give a model, in place, its masks as outputs; their names."""
    names = []
    for place, mask in enumerate(mask_values(model)):
        name = f"{_PREFIX}{place}"  # no name of the model's own begins so
        model.graph.node.append(helper.make_node("Identity", [mask], [name], name))
        model.graph.output.append(helper.make_tensor_value_info(name, onnx.TensorProto.BOOL, None))
        names.append(name)
    return names


def mask_values(model: onnx.ModelProto) -> tuple[str, ...]:
    """The flags of a graph from which lengths of recurrent layers come; none where lengths come otherwise."""
    reading = Reading(model)
    inputs = {value.name: value.type.tensor_type.elem_type for value in model.graph.input}
    flags = {name for name, kind in inputs.items() if kind == onnx.TensorProto.BOOL}
    for node in model.graph.node:
        casts = node.op_type == "Cast" and attribute(node, "to") == onnx.TensorProto.BOOL
        values = node.input[1:] if node.op_type == "Where" else node.input
        kept = node.op_type in _KEEP and any(name in flags for name in values if name)
        if node.op_type in _FLAGS or casts or kept:
            flags.update(node.output)
    found: dict[str, None] = {}
    for node in model.graph.node:
        if is_recurrent(node) and len(node.input) > SEQUENCE_LENS and node.input[SEQUENCE_LENS]:
            found.update(dict.fromkeys(_nearest(reading, node.input[SEQUENCE_LENS], flags)))
    return tuple(found)


def _nearest(reading: Reading, name: str, flags: set[str]) -> list[str]:
    """The last flags on the way to a value: not those that choose between counts (at least 1), but between 1 and 0."""
    todo, seen, found = [name], set(), []
    while todo:
        item = todo.pop()
        if item in seen:
            continue
        seen.add(item)
        if item in flags:
            found.append(item)
        elif (node := reading.producers.get(item)) is not None:
            values = node.input[1:] if node.op_type == "Where" else ()
            chosen = [flag for value in values for flag in _nearest(reading, value, flags)]
            found.extend(chosen)
            todo.extend(() if chosen else reading.reads(node))
    return found
