"""What a function or a session takes from outside: small variables frozen into the graph, large ones kept out of it.

A GraphDef is one protobuf string, which ends at 2 GB, and what is frozen into one is copied many times on the way to
ONNX. So a large variable is an input of the graph while that is translated, and a constant again after it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import onnx_ir as ir
import tensorflow as tf
from tensorflow.python.framework import convert_to_constants as freezing  # its public forms freeze every variable
from tf2onnx import tf_loader

from seqport.exporters.frontends.patching import replaced
from seqport.exporters.frontends.tensorflow.graphs import operation, tensor_name

# Bytes of variables that a graph may hold: beyond them, the largest stay out of it.
FROZEN_AT_MOST = 256_000_000


@contextmanager
def large_variables_outside() -> Iterator[None]:
    """Within this block tf2onnx makes inputs of a function's large variables, by the names of `taken_from_outside`."""
    original = tf_loader.from_function

    def from_function(function: Any, inputs: list[str], outputs: list[str], large_model: bool = False) -> Any:
        large = _largest(taken_from_outside(function))
        if not large:
            return original(function, inputs, outputs, large_model)
        graph_def = _frozen(function, large, [*inputs, *outputs])
        with tf.Graph().as_default():
            return tf_loader.tf_optimize(inputs, outputs, graph_def)

    with replaced(tf_loader, "from_function", from_function):
        yield


def taken_from_outside(function: Any) -> dict[str, Any]:
    """The variables and constants that a concrete function reads, by the name of the tensor that stands for each."""
    variables = {id(variable.handle): variable for variable in function.graph.variables}
    values = {inside.name: variables.get(id(outside), outside) for outside, inside in function.graph.captures}
    return {name: value for name, value in values.items() if value.dtype not in (tf.resource, tf.variant)}


def frozen_session(session: Any, graph_def: Any, outputs: Sequence[str]) -> tuple[Any, dict[str, np.ndarray]]:
    """TF 1's graph behind these operations, its variables as constants, and the large ones, by tensor, beside it."""
    graph_def = tf.compat.v1.graph_util.extract_sub_graph(graph_def, list(outputs))
    nodes = {node.name: node for node in graph_def.node if node.op in ("Variable", "VariableV2", "VarHandleOp")}
    specs = {
        tensor_name(name): tf.TensorSpec(tf.TensorShape(node.attr["shape"].shape), tf.as_dtype(node.attr["dtype"].type))
        for name, node in nodes.items()
    }
    large = _largest(specs)
    data = freezing._SessionConverterData(
        session, graph_def, list(outputs), variable_names_denylist=[*map(operation, large)]
    )
    reads = {
        name: f"{operation(name)}/Read/ReadVariableOp:0" if nodes[operation(name)].op == "VarHandleOp" else name
        for name in large
    }
    return _with_placeholders(data, dict.fromkeys(large), large), session.run(reads)


def keep_constants(graph: ir.Graph, values: Mapping[str, Any]) -> None:
    """Make initializers of the graph's inputs that stand for these variables, tensors or arrays; without a copy."""
    for number, value in enumerate([value for value in graph.inputs if value.name in values]):
        outside = values[value.name or ""]
        array = np.asarray(outside.read_value() if isinstance(outside, tf.Variable) else outside)
        graph.inputs.remove(value)
        if (value.name or "").partition(":")[0].isdigit():  # TensorFlow's own number in this process
            value.name = f"{outside.name if isinstance(outside, tf.Variable) else 'constant'}/{number}"
        value.const_value = ir.tensor(array, name=value.name)
        graph.register_initializer(value)


def _largest(values: Mapping[str, Any]) -> dict[str, Any]:
    """The largest variables, as many as it takes to leave no more than FROZEN_AT_MOST bytes."""
    sizes = {name: (value.shape.num_elements() or 0) * value.dtype.size for name, value in values.items()}
    left, found = sum(sizes.values()), {}
    for name in sorted(values, key=lambda name: -sizes[name]):  # not by name, which may be a counter of the process
        if left <= FROZEN_AT_MOST:
            break
        found[name] = values[name]
        left -= sizes[name]
    return found


def _frozen(function: Any, large: Mapping[str, Any], ends: Sequence[str]) -> Any:
    """The function's graph between these ends, its variables as constants, placeholders in place of the large ones."""
    data = freezing._FunctionConverterDataInEager(
        function,
        lower_control_flow=False,
        aggressive_inlining=True,
        variable_names_denylist=[*map(operation, large)],
    )
    places = {inside.name: index for index, (_, inside) in enumerate(function.graph.captures) if inside.name in large}
    graph_def = _with_placeholders(data, places, large)
    graph_def = tf_loader.fix_freezing_errors_part2(tf_loader.fix_freezing_errors(graph_def))
    return tf.compat.v1.graph_util.extract_sub_graph(graph_def, [operation(name) for name in ends])


def _with_placeholders(data: Any, places: Mapping[str, int | None], large: Mapping[str, Any]) -> Any:
    """The graph that TensorFlow freezes from its `data`, with placeholders for what these are among the captures."""
    for name, place in places.items():
        dtype = large[name].dtype
        # Of the variable's shape, which loops record, and without memory of its own.
        stand_in = np.broadcast_to(np.zeros((), dtype.as_numpy_dtype), large[name].shape)
        data.tensor_data[operation(name)] = freezing._TensorData(stand_in, dtype.as_datatype_enum, place)
    with _unwritten(data.tensor_data[operation(name)].numpy for name in large):
        graph_def, _ = freezing._replace_variables_by_constants(data)
    shapes = {operation(name): value.shape for name, value in large.items()}
    for node in graph_def.node:
        if node.name in shapes:
            node.op = "Placeholder"
            del node.attr["value"]
            node.attr["shape"].shape.CopyFrom(shapes[node.name].as_proto())
    return graph_def


@contextmanager
def _unwritten(arrays: Iterable[np.ndarray]) -> Iterator[None]:
    """Within this block TensorFlow writes a zero in place of each of these arrays."""
    original, stand_ins = freezing.tensor_util.make_tensor_proto, set(map(id, arrays))

    def make_tensor_proto(values: Any, *args: Any, **options: Any) -> Any:
        return original(0) if id(values) in stand_ins else original(values, *args, **options)

    with replaced(freezing.tensor_util, "make_tensor_proto", make_tensor_proto):
        yield
