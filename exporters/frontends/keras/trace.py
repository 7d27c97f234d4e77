"""A Keras 3 model in, a graph with neutral recurrent nodes out."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

import keras
import numpy as np
import onnx
import onnx_ir as ir
import tensorflow as tf
import tf2onnx

from seqport.exporters.arrangement import Arrangement
from seqport.exporters.capture import Arrays, Capture
from seqport.exporters.errors import ExportError, Refusal, RefusedError
from seqport.exporters.frontends.keras.call import Call, callers, flatten_outputs
from seqport.exporters.frontends.keras.layers import TOKEN_PREFIX
from seqport.exporters.frontends.keras.patches import recurrent_layers_whole
from seqport.exporters.frontends.keras.stateful import KeptStates
from seqport.exporters.frontends.naming import chosen_outputs, name_interface
from seqport.exporters.recurrent import DOMAIN, OP_TYPE, VERSION
from seqport.exporters.signature import Input

# tf2onnx writes opsets up to this one; the passes convert upwards from it.
_NEWEST_TRANSLATED_OPSET = 18


def trace(model: keras.Model, arrangement: Arrangement, outputs: Sequence[str] | None, opset: int) -> Capture:
    """Trace a live Keras 3 model.

    Raises:
        InputsError: the model takes other inputs, or gives another number of outputs.
        RefusedError: a recurrent layer has no native form.
        ExportError: TensorFlow cannot trace the model, or tf2onnx cannot translate it.
    """
    if keras.backend.backend() != "tensorflow":
        raise ExportError(
            f"Keras runs on the {keras.backend.backend()} backend: expected tensorflow. "
            "Remedy: set KERAS_BACKEND=tensorflow before keras is imported, and load the model there"
        )
    kept = KeptStates(model, arrangement.inputs[0].axes[0])
    inputs = [*arrangement.inputs, *kept.inputs]
    refusals: list[Refusal] = []
    call, function, names = _traced(callers(model, arrangement), inputs, kept, refusals)
    names = [*chosen_outputs(names, outputs, inputs), *kept.output_names]
    graph = _translated(function, min(opset, _NEWEST_TRANSLATED_OPSET))
    _rename(graph, inputs, names)
    return Capture(
        model=graph,
        inputs=tuple(inputs),
        convention="keras",
        source={"framework": "keras", **{p: version(p) for p in ("keras", "tensorflow", "tf2onnx")}},
        reference=lambda arrays, again=False: _run(call, inputs, kept, names, arrays, again),
        refusals=refusals,
        padding_values=_padding_values(model, inputs),
        notes=_notes(model),
    )


def _traced(
    calls: Sequence[Call], inputs: Sequence[Input], kept: KeptStates, refusals: list[Refusal]
) -> tuple[Call, Any, list[str]]:
    """The way to call the model that traces, the traced tf.function, and the model's own output names."""
    failure: Exception | None = None
    for call in calls:
        names: list[str] = []
        function = _function(call, inputs, kept, names)
        try:
            with _quiet(), recurrent_layers_whole(refusals, kept):
                function.get_concrete_function()
        except Exception as error:
            failure = failure or error
            refusals.clear()
        else:
            return call, function, names
    assert failure is not None
    raise _explained(failure) from failure


def _function(call: Call, inputs: Sequence[Input], kept: KeptStates, names: list[str]) -> Any:
    """The model as a tf.function of plainly named inputs and outputs; tracing it fills in the model's own names."""
    own = len(inputs) - len(kept.inputs)

    def flat(*values: Any) -> dict[str, Any]:
        with kept.traced(values[own:]):
            found, leaves = flatten_outputs(call(values[:own]))
        names[:] = found
        # An Identity each: an output may be an input, or two outputs one tensor.
        return {_plain("out", i): tf.identity(leaf) for i, leaf in enumerate([*leaves, *kept.outputs()])}

    signature = [
        tf.TensorSpec([a if isinstance(a, int) else None for a in item.axes], item.dtype, name=_plain("in", i))
        for i, item in enumerate(inputs)
    ]
    return tf.function(flat, input_signature=signature, autograph=False)


def _explained(error: BaseException) -> ExportError:
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, RefusedError):
            return seen
        seen = seen.__cause__ or seen.__context__
    reason = str(error).strip().split("\n\n")[0]
    return ExportError(
        f"TensorFlow cannot trace the model: {type(error).__name__}: {reason}. "
        "Remedy: the model must run on symbolic tensors; check that the declared inputs are those it is called with"
    )


def _translated(function: Any, opset: int) -> ir.Model:
    with _quiet():
        proto, _ = tf2onnx.convert.from_function(
            function,
            input_signature=function.input_signature,
            opset=opset,
            custom_op_handlers={"PyFunc": (_translate_call, []), "SelectV2": (_translate_where, [])},
            extra_opset=[onnx.helper.make_opsetid(DOMAIN, VERSION)],
        )
    model = ir.from_proto(proto)
    unknown = sorted({n.op_type for n in model.graph.all_nodes() if n.domain == "" and not _is_standard(n, opset)})
    if unknown:
        raise ExportError(
            f"tf2onnx cannot translate the TensorFlow operation {', '.join(unknown)}: "
            "replace it in the model, or run it outside of the exported part"
        )
    return model


def _is_standard(node: ir.Node, opset: int) -> bool:
    return onnx.defs.has(node.op_type, opset, "")


def _translate_call(context: Any, node: Any, _name: str, _args: Any) -> None:
    """tf2onnx's hook: the op that stands for a recurrent layer becomes the neutral node."""
    token = node.get_attr_str("token")
    if not token.startswith(TOKEN_PREFIX):
        return  # a user's own tf.numpy_function: no ONNX operator, and refused as such below
    call = json.loads(token[len(TOKEN_PREFIX) :])
    given = dict(zip(call["slots"], node.input, strict=True))
    context.replace_inputs(node, [given.get(i, "") for i in range(max(given) + 1)])
    for attribute in list(node.attr):
        del node.attr[attribute]
    node.type, node.domain = OP_TYPE, DOMAIN
    for attribute, value in call["attributes"].items():
        node.set_attr(attribute, value)


def _translate_where(_context: Any, node: Any, _name: str, _args: Any) -> None:
    """ONNX's own choice; tf2onnx writes `c * x + (1 - c) * y`, where NaN in the branch not taken reaches the result."""
    node.type = "Where"


def _rename(graph: ir.Model, inputs: Sequence[Input], names: Sequence[str]) -> None:
    """The user's names and order on the graph's inputs and outputs; an unused input is kept."""
    by_name = {value.name: value for value in [*graph.graph.inputs, *graph.graph.outputs]}
    values = [by_name.get(_plain("in", i)) or ir.Value(name=item.name) for i, item in enumerate(inputs)]
    ordered = [by_name[_plain("out", i)] for i in range(len(names))]
    graph.graph.inputs[:] = values
    graph.graph.outputs[:] = ordered
    name_interface(graph.graph, inputs, names)


def _plain(kind: str, index: int) -> str:
    return f"seqport_{kind}_{index:04d}"  # sorted by name is sorted by index: TensorFlow sorts a dict's keys


def _run(
    call: Call, inputs: Sequence[Input], kept: KeptStates, names: Sequence[str], arrays: Arrays, again: bool
) -> dict[str, np.ndarray]:
    values = [tf.constant(arrays[item.name]) for item in inputs]
    own = len(inputs) - len(kept.inputs)
    if again and not kept.layers:
        call(values[:own])
    with kept.run_from([np.asarray(value) for value in values[own:]]) as finals:
        _, leaves = flatten_outputs(call(values[:own]))
    return {name: np.asarray(leaf) for name, leaf in zip(names, [*leaves, *finals], strict=True)}


def _notes(model: keras.Model) -> list[str]:
    """Layers whose arithmetic the artifact does in another precision than the model."""
    return [
        f"{layer.path}: computed in float32; the model computes it in {layer.compute_dtype}"
        for layer in model._flatten_layers()
        if isinstance(layer, keras.layers.RNN) and layer.compute_dtype != "float32"
    ]


def _padding_values(model: keras.Model, inputs: Sequence[Input]) -> dict[str, float]:
    """What `Masking` layers take for padding; Embedding(mask_zero=True) takes 0, the default."""
    values = {layer.mask_value for layer in model._flatten_layers() if isinstance(layer, keras.layers.Masking)}
    if len(values) != 1:
        return {}
    value = float(values.pop())
    return {item.name: value for item in inputs if item.dtype.startswith("float") and len(item.axes) >= 3}


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence tf2onnx's progress, and what TensorFlow and Keras say that concerns no export."""
    levels = {"tf2onnx": logging.CRITICAL, "tensorflow": logging.ERROR}
    loggers = {logging.getLogger(name): level for name, level in levels.items()}
    before = {logger: logger.level for logger in loggers}
    try:
        for logger, level in loggers.items():
            logger.setLevel(level)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in before.items():
            logger.setLevel(level)
