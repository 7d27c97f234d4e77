"""A model handed to C++ code without its weights, which a protobuf string above 2 GB could not hold.

Needs: any model. Guarantees: the protobuf holds the graph and the small constants that shapes are made of; the other
weights are only named in it, and go beside it, without a copy where the callee takes them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort

# Shapes and indices are integers; shape inference looks into those up to some size. Below it, a reference costs more.
_LARGE_INTEGERS, _LARGE = 1024, 128
_NOWHERE = "weights"
# Element types that NumPy's arrays do not tell ONNX Runtime by themselves.
_NOT_NUMPYS = (ir.DataType.BFLOAT16,)

Weights = Mapping[str, ir.TensorProtocol]


def weights_of(model: ir.Model) -> dict[str, ir.TensorProtocol]:
    """Every initializer that holds values, by name, in the graph's order."""
    return {
        name: value.const_value for name, value in model.graph.initializers.items() if value.const_value is not None
    }


def large_weights(model: ir.Model) -> dict[str, ir.TensorProtocol]:
    """Those of them that no shape is made of, and that some node reads: ONNX Runtime forgets the others on loading."""
    # Not Value.uses(): what a removed node's subgraph read still counts there.
    read = {id(value) for node in model.graph.all_nodes() for value in node.inputs}
    read |= {id(value) for value in model.graph.outputs}
    return {
        name: tensor
        for name, tensor in weights_of(model).items()
        if id(model.graph.initializers[name]) in read
        and tensor.dtype != ir.DataType.STRING
        and tensor.nbytes > (_LARGE_INTEGERS if tensor.dtype.is_integer() else _LARGE)
    }


@contextmanager
def replaced_weights(model: ir.Model, tensors: Weights) -> Iterator[None]:
    """While the context lasts, the named initializers hold other tensors."""
    before = {name: model.graph.initializers[name].const_value for name in tensors}
    try:
        for name, tensor in tensors.items():
            model.graph.initializers[name].const_value = tensor
        yield
    finally:
        for name, tensor in before.items():
            model.graph.initializers[name].const_value = tensor


def light(model: ir.Model) -> tuple[onnx.ModelProto, dict[str, ir.TensorProtocol]]:
    """The model with references in the place of its large weights, and those weights."""
    large = large_weights(model)
    named = {name: reference(tensor, name, _NOWHERE, 0) for name, tensor in large.items()}
    with replaced_weights(model, named):
        return ir.to_proto(model), large


def reference(tensor: ir.TensorProtocol, name: str, file: str, offset: int) -> ir.ExternalTensor:
    """What stands in the graph for a tensor whose bytes are in a file."""
    shape = ir.Shape([int(size) for size in tensor.shape])  # type: ignore[call-overload]
    return ir.ExternalTensor(file, offset, tensor.nbytes, tensor.dtype, shape=shape, name=name)


def session_of(model: ir.Model, change: Callable[[onnx.GraphProto], None] | None = None) -> ort.InferenceSession:
    """The model on ONNX Runtime's CPU provider, silent and on one thread.

    Args:
        model: any.
        change: what becomes of the graph before, in a session for a few runs of parts of it: neither the graph nor
            the weights are then prepared to be fast.

    Raises:
        Exception: ONNX Runtime's own, whose types have no common root.
    """
    proto, large = light(model)
    options = ort.SessionOptions()
    if change is not None:
        change(proto.graph)
        read = set(_read(proto.graph))
        large = {name: tensor for name, tensor in large.items() if name in read}
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.add_session_config_entry("session.disable_prepacking", "1")
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    values = [_ort_value(tensor) for tensor in large.values()]
    if values:
        options.add_external_initializers(list(large), values)
    return ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _read(graph: onnx.GraphProto) -> Iterator[str]:
    """The names that nodes read, those in branches and loops too."""
    for node in graph.node:
        yield from node.input
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _read(inner)


def _ort_value(tensor: ir.TensorProtocol) -> ort.OrtValue:
    """A view of the tensor, in C order."""
    array = np.ascontiguousarray(tensor.numpy())
    if tensor.dtype in _NOT_NUMPYS:
        return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(array, int(tensor.dtype))
    return ort.OrtValue.ortvalue_from_numpy(array)


def through_onnx(model: ir.Model, call: Callable[[onnx.ModelProto], onnx.ModelProto | None]) -> ir.Model:
    """The model after a call of onnx, which sees its large weights as inputs; the model itself where it gives nothing.

    Raises:
        Exception: whatever the call raises.
    """
    proto, large = light(model)
    kept = [tensor for tensor in proto.graph.initializer if tensor.name not in large]
    proto.graph.input.extend(
        onnx.helper.make_tensor_value_info(name, int(tensor.dtype), [int(size) for size in tensor.shape])  # type: ignore[call-overload]
        for name, tensor in large.items()
    )
    del proto.graph.initializer[:]
    proto.graph.initializer.extend(kept)
    result = call(proto)
    if result is None:
        return model
    found = ir.from_proto(result)
    for value in [value for value in found.graph.inputs if value.name in large]:
        found.graph.inputs.remove(value)
        value.const_value = large[value.name or ""]
        found.graph.register_initializer(value)
    return found
