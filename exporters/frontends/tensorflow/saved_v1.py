"""SavedModels of TF 1 (simple_save, builder): a graph, a session's variables and signatures, read as a frozen graph.

TensorFlow 2 reads them as functions, but tf2onnx cannot look into a function with TF 1's control flow: a frozen graph
it can.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from seqport.exporters.errors import ExportError
from seqport.exporters.frontends.tensorflow.freeze import frozen_session
from seqport.exporters.frontends.tensorflow.graphs import Frozen, operation

_DEFAULT = "serving_default"


def meta_graph(path: Path) -> Any:
    """The MetaGraphDef of a folder that TF 1 saved; None where TF 2 saved it, with objects and functions.

    Raises:
        ExportError: there is none that can be read.
    """
    saved = saved_model_pb2.SavedModel()
    try:
        saved.ParseFromString((path / "saved_model.pb").read_bytes())
    except Exception as error:
        raise ExportError(f"{path} cannot be read as a SavedModel: {error}") from error
    if any(item.object_graph_def.nodes for item in saved.meta_graphs):
        return None
    serving = [item for item in saved.meta_graphs if "serve" in item.meta_info_def.tags]
    return next(iter([*serving, *saved.meta_graphs]), None)


def frozen(path: Path, meta: Any) -> tuple[Frozen, list[tf.TensorSpec]]:
    """The graph behind the default signature, or the first, its variables as constants; and what the signature takes.

    Raises:
        ExportError: it has no signature, or cannot be loaded.
    """
    named = {name: item for name, item in meta.signature_def.items() if item.inputs and item.outputs}
    if not named:
        raise ExportError(f"{path} has no signature: save it with tf.compat.v1.saved_model.simple_save")
    signature = named[_DEFAULT] if _DEFAULT in named else named[min(named)]
    outputs = {name: signature.outputs[name].name for name in sorted(signature.outputs)}
    v1 = tf.compat.v1
    try:
        with v1.Graph().as_default() as graph, v1.Session(graph=graph) as session:
            v1.saved_model.load(session, list(meta.meta_info_def.tags), str(path))
            ends = [operation(name) for name in outputs.values()]
            graph_def, weights = frozen_session(session, graph.as_graph_def(), ends)
    except Exception as error:
        raise ExportError(f"{path} cannot be loaded: {str(error).strip().splitlines()[0]}") from error
    inputs = {name: signature.inputs[name] for name in sorted(signature.inputs)}
    specs = [
        tf.TensorSpec(tf.TensorShape(info.tensor_shape), tf.as_dtype(info.dtype), name=name)
        for name, info in inputs.items()
    ]
    return Frozen(graph_def, {name: info.name for name, info in inputs.items()}, outputs, weights), specs
