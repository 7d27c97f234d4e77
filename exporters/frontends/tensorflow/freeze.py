"""What a function takes from outside: the small variables frozen into its graph, the large ones kept out of it.

A GraphDef is one protobuf string, which ends at 2 GB, and what is frozen into one is copied many times on the way to
ONNX. So a large variable is an input of the graph while that is translated, and a constant again after it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import onnx_ir as ir
import tensorflow as tf
from tensorflow.python.framework import convert_to_constants as freezing  # its public forms freeze every variable
from tf2onnx import tf_loader

from seqport.exporters.frontends.patching import replaced
from seqport.exporters.frontends.tensorflow.graphs import operation
from seqport.exporters.passes.builder import replace

# Bytes of variables that a graph may hold: beyond them, the largest stay out of it.
FROZEN_AT_MOST = 256_000_000


@contextmanager
def large_variables_outside() -> Iterator[None]:
    """Within this block tf2onnx makes inputs of a function's large variables, by the names of `taken_from_outside`."""
    original = tf_loader.from_function

    def from_function(function: Any, inputs: list[str], outputs: list[str], large_model: bool = False) -> Any:
        large = large_variables(taken_from_outside(function))
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


def large_variables(values: Mapping[str, Any]) -> dict[str, Any]:
    """The largest of these, as many as it takes to leave no more than FROZEN_AT_MOST bytes."""
    sizes = {name: (value.shape.num_elements() or 0) * value.dtype.size for name, value in values.items()}
    left, found = sum(sizes.values()), {}
    for name in sorted(values, key=lambda name: (-sizes[name], name)):
        if left <= FROZEN_AT_MOST:
            break
        found[name] = values[name]
        left -= sizes[name]
    return found


def keep_constants(graph: ir.Graph, function: Any) -> None:
    """Make initializers of inputs that stand for what the function takes from outside, without a copy."""
    values = taken_from_outside(function)
    for value in [value for value in graph.inputs if value.name in values]:
        graph.inputs.remove(value)
        outside = values[value.name or ""]
        tensor = outside.read_value() if isinstance(outside, tf.Variable) else outside
        value.const_value = ir.tensor(np.asarray(tensor), name=value.name)
        graph.register_initializer(value)
        _read_directly(graph, value)


def _read_directly(graph: ir.Graph, value: ir.Value) -> None:
    """Let nobody read a constant through an Identity, which was the reading of a variable."""
    for use in list(value.uses()):
        if use.node.op_type == "Identity" and use.node.domain == "" and use.node.graph is graph:
            replace(graph, use.node.outputs[0], value, before=use.node)
            if not use.node.outputs[0].is_graph_output():
                graph.remove(use.node, safe=True)
            _read_directly(graph, value)


def _frozen(function: Any, large: Mapping[str, Any], ends: list[str]) -> Any:
    """The function's graph between these ends: the large variables are placeholders in it, the others constants."""
    shapes = {operation(name): value.shape for name, value in large.items()}
    data = freezing._FunctionConverterDataInEager(
        function, lower_control_flow=False, aggressive_inlining=True, variable_names_denylist=shapes.keys()
    )
    for index, (_, inside) in enumerate(function.graph.captures):
        if inside.name in large:
            dtype = large[inside.name].dtype
            # Of the variable's shape, which loops record, and without memory of its own.
            stand_in = np.broadcast_to(np.zeros((), dtype.as_numpy_dtype), shapes[inside.op.name])
            data.tensor_data[inside.op.name] = freezing._TensorData(stand_in, dtype.as_datatype_enum, index)
    with _stand_ins_unwritten(data.tensor_data[name].numpy for name in shapes):
        graph_def, _ = freezing._replace_variables_by_constants(data)
    for node in graph_def.node:
        if node.name in shapes:
            node.op = "Placeholder"
            del node.attr["value"]
            node.attr["shape"].shape.CopyFrom(shapes[node.name].as_proto())
    graph_def = tf_loader.fix_freezing_errors_part2(tf_loader.fix_freezing_errors(graph_def))
    return tf.compat.v1.graph_util.extract_sub_graph(graph_def, [operation(name) for name in ends])


@contextmanager
def _stand_ins_unwritten(arrays: Iterable[np.ndarray]) -> Iterator[None]:
    """Within this block TensorFlow writes nothing of these arrays into a graph."""
    original, stand_ins = freezing.tensor_util.make_tensor_proto, set(map(id, arrays))

    def make_tensor_proto(values: Any, *args: Any, **options: Any) -> Any:
        return original(0) if id(values) in stand_ins else original(values, *args, **options)

    with replaced(freezing.tensor_util, "make_tensor_proto", make_tensor_proto):
        yield
