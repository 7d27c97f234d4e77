"""A tf.function in, a graph out: what every TensorFlow frontend shares."""

from __future__ import annotations

import json
import logging
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import tf2onnx
from tf2onnx import tf_loader
from tf2onnx.optimizer.merge_duplicated_nodes_optimizer import MergeDuplicatedNodesOptimizer

from seqport.exporters.errors import ExportError, refusal_behind
from seqport.exporters.frontends.naming import name_interface
from seqport.exporters.frontends.patching import replaced
from seqport.exporters.frontends.tensorflow.branches import take_branches, with_own_outputs
from seqport.exporters.frontends.tensorflow.freeze import (
    keep_constants,
    large_variables_outside,
    taken_from_outside,
)
from seqport.exporters.frontends.tensorflow.names import names_apart
from seqport.exporters.recurrent import DOMAIN, OP_TYPE, VERSION
from seqport.exporters.signature import Input

# The token of a traced recurrent call begins with this; the translation to ONNX finds it by that.
TOKEN_PREFIX = "seqport:"
# tf2onnx writes opsets up to this one; the passes convert upwards from it.
_NEWEST_OPSET = 18
_RANDOM = "the model draws random numbers: switch that off for inference (dropout with training=False)"
_REPLACE = "replace it in the model, or run it outside of the exported part"
_ADVICE = {
    "CudnnRNNV3": "the model was saved on a machine with a GPU: export the live model, or save it with use_cudnn=False",
    "LookupTableFindV2": "look the ids up before the model, and pass them",
    "StringToHashBucketFast": "hash before the model, and pass the ids",
}
# Colours and bold in messages that Keras writes for a terminal.
_ANSI = re.compile(r"\x1b\[[0-9;]*m")


def translated(function: Any, opset: int) -> ir.Model:
    """A traced tf.function as a graph of opset 18 at most, its recurrent calls as neutral nodes."""
    with large_variables_outside():
        model = _checked(
            lambda: tf2onnx.convert.from_function(function, input_signature=function.input_signature, **_options(opset))
        )
    keep_constants(model.graph, taken_from_outside(function.get_concrete_function()))
    return model


def converted(graph_def: Any, inputs: Sequence[str], outputs: Sequence[str], opset: int) -> ir.Model:
    """The same for a frozen graph, from these tensors to those."""
    return _checked(
        lambda: tf2onnx.convert.from_graph_def(
            graph_def, input_names=list(inputs), output_names=list(outputs), **_options(opset)
        )
    )


def _options(opset: int) -> dict[str, Any]:
    """What every conversion tells tf2onnx."""
    return {
        "opset": min(opset, _NEWEST_OPSET),
        "custom_op_handlers": {
            "PyFunc": (_translate_call, []),
            "SelectV2": (_translate_where, []),
            "Erfc": (_translate_erfc, []),
        },
        "extra_opset": [onnx.helper.make_opsetid(DOMAIN, VERSION)],
    }


@contextmanager
def _merged_by_name() -> Iterator[None]:
    """Of equal nodes, tf2onnx keeps the first, in an order that varies; here that is the first by name."""
    merge = MergeDuplicatedNodesOptimizer._merge_nodes_that_are_duplicated

    def in_order(self: Any, nodes: list[Any], graph: Any) -> None:
        merge(self, sorted(nodes, key=lambda node: node.name.partition("__")[0]), graph)

    with replaced(MergeDuplicatedNodesOptimizer, "_merge_nodes_that_are_duplicated", in_order):
        yield


def _checked(convert: Callable[[], tuple[onnx.ModelProto, Any]]) -> ir.Model:
    """What tf2onnx writes, its branches valid, without operations that it left untranslated.

    Raises:
        ExportError: it left one, or gives up.
    """
    try:
        with _merged_by_name(), replaced(tf_loader, "tf_optimize", _optimised):
            proto = convert()[0]
        with_own_outputs(proto.graph)
        model = ir.from_proto(proto)
    except Exception as error:
        reason = str(error).strip().splitlines()[0]
        raise ExportError(
            f"tf2onnx cannot translate the graph: {type(error).__name__}: {reason}. Remedy: write its loops "
            "as tf.nn.dynamic_rnn, or save it with the other control flow (tf.compat.v1.enable_control_flow_v2)"
        ) from error
    unknown = {n.op_type: n for n in model.graph.all_nodes() if n.domain == "" and not _is_standard(n, model)}
    if unknown:
        raise ExportError(
            f"tf2onnx cannot translate the TensorFlow operation {', '.join(sorted(unknown))}: "
            f"{_advice(unknown)} "
            f"({', '.join(sorted(n.name or '' for n in unknown.values()))})"
        )
    take_branches(model)
    return model


def _advice(unknown: Iterable[str]) -> str:
    if any("Random" in op for op in unknown):
        return _RANDOM
    return next((advice for op, advice in _ADVICE.items() if op in unknown), _REPLACE)


def _optimised(*arguments: Any, original: Callable[..., Any] = tf_loader.tf_optimize) -> Any:
    """tf2onnx's last look at the graph before it translates, and the functions' names kept apart."""
    return names_apart(original(*arguments))


def _is_standard(node: ir.Node, model: ir.Model) -> bool:
    return onnx.defs.has(node.op_type, model.opset_imports.get("", _NEWEST_OPSET), "")


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


def _translate_erfc(context: Any, node: Any, _name: str, _args: Any) -> None:
    """1 - erf(x), which Keras's gelu is made of; tf2onnx has no form of it."""
    output, dtype, shape = node.output[0], context.get_dtype(node.output[0]), context.get_shape(node.output[0])
    one = context.make_const(f"{node.name}_one", np.array(1, tf2onnx.utils.map_onnx_to_numpy_type(dtype)))
    erf = context.make_node("Erf", node.input, name=f"{node.name}_erf")
    context.remove_node(node.name)
    inputs = [one.output[0], erf.output[0]]
    context.make_node("Sub", inputs, name=node.name, outputs=[output], shapes=[shape], dtypes=[dtype])


def rename(graph: ir.Model, inputs: Sequence[Input], names: Sequence[str]) -> None:
    """The user's names and order on the graph's inputs and outputs; an unused input is kept."""
    by_name = {value.name: value for value in [*graph.graph.inputs, *graph.graph.outputs]}
    values = [by_name.get(plain_name("in", i)) or ir.Value(name=item.name) for i, item in enumerate(inputs)]
    ordered = [by_name[plain_name("out", i)] for i in range(len(names))]
    graph.graph.inputs[:] = values
    graph.graph.outputs[:] = ordered
    name_interface(graph.graph, inputs, names)


def plain_name(kind: str, index: int) -> str:
    """The name of an input or output while it is traced."""
    return f"seqport_{kind}_{index:04d}"  # sorted by name is sorted by index: TensorFlow sorts a dict's keys


def explained(error: BaseException) -> ExportError:
    """The refusal that a capture raised, wherever TensorFlow has wrapped it; else TensorFlow's own words."""
    if (refusal := refusal_behind(error)) is not None:
        return refusal
    # Keras writes several paragraphs, in bold: which layer was called, the cause, and what it was called with.
    paragraphs = _ANSI.sub("", str(error)).strip().split("\n\n")
    reason = " ".join(paragraphs[: 2 if paragraphs[0].startswith("Exception encountered") else 1])
    return ExportError(
        f"TensorFlow cannot trace the model: {type(error).__name__}: {reason}. "
        "Remedy: the model must run on symbolic tensors; check that the declared inputs are those it is called with"
    )


@contextmanager
def quiet() -> Iterator[None]:
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
