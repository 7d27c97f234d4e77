"""Values between the layers of a model: of a whole sequence, and of its parts one behind the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import numpy_helper

from seqport.runtime.rewriting.reading import Reading
from seqport.runtime.stream_draws import part
from seqport.runtime.stream_model import StreamModel
from seqport.runtime.stream_proof import TOLERANCE, difference
from seqport.runtime.stream_signature import Chunk
from seqport.runtime.stream_state import FRESH

if TYPE_CHECKING:
    import onnxruntime

Open = Callable[[bytes], "onnxruntime.InferenceSession"]


def of_the_data(node: onnx.NodeProto, reading: Reading, timed: Set[str]) -> bool:
    """Whether its values are of the sequence: what follows only sizes and lengths differs in any chunk."""
    return any(reading.upstream(name)[0] & timed for name in reading.reads(node))


def inner_values(
    opened: StreamModel, model: onnx.ModelProto, row: Chunk, names: Sequence[str], open_bytes: Open
) -> dict[str, np.ndarray]:
    """Inner values of a model for one whole sequence, constants among them."""
    constants = [tensor for tensor in model.graph.initializer if tensor.name in names and not tensor.external_data]
    found = {tensor.name: numpy_helper.to_array(tensor) for tensor in constants}
    rest = [name for name in names if name not in found]
    values: Sequence[Any] = open_bytes(with_outputs(model, rest)).run(rest, opened.feed([FRESH], [row]))
    return found | dict(zip(rest, values, strict=True))


def with_outputs(model: onnx.ModelProto, names: Sequence[str]) -> bytes:
    """The model with some of its inner values as outputs."""
    traced = onnx.ModelProto()
    traced.CopyFrom(model)
    there = {value.name for value in model.graph.output}
    traced.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in there)
    return traced.SerializeToString()


def values_in_parts(
    opened: StreamModel,
    traced: onnxruntime.InferenceSession,
    row: Chunk,
    names: Sequence[str],
    ends: Sequence[tuple[int, int]],
) -> list[dict[str, Any]]:
    """The inner values of one run after the other, each going on from the state before."""
    state, found = FRESH, []
    for start, end in ends:
        chunk = part(opened.signature, row, start, end)
        found.append(dict(zip(names, traced.run(names, opened.feed([state], [chunk])), strict=True)))
        ((state, _),) = opened.advance([(state, chunk)])
    return found


def agree(whole: Any, parts: Sequence[Any]) -> bool:
    """Whether the parts are the whole cut along one axis or, where it has no steps, the last of them is the whole."""
    if not all(isinstance(value, np.ndarray) for value in (whole, *parts)):
        return True  # a sequence of tensors: what comes of it is compared
    if whole.shape == parts[-1].shape:
        return difference(parts[-1], whole) <= TOLERANCE
    if any(value.ndim != whole.ndim for value in parts):
        return False
    axes = [axis for axis in range(whole.ndim) if any(value.shape[axis] != whole.shape[axis] for value in parts)]
    if len(axes) != 1 or sum(value.shape[axes[0]] for value in parts) != whole.shape[axes[0]]:
        return False
    return difference(np.concatenate(parts, axis=axes[0]), whole) <= TOLERANCE
