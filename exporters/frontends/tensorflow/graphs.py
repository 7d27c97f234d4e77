"""Frozen graphs (GraphDef): what they take and give, and how to run or convert them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from seqport.exporters.errors import ExportError, InputsError
from seqport.exporters.signature import Input

# Operations that end a graph without being an answer.
_NO_OUTPUT = frozenset({"Const", "NoOp", "Assert", "Placeholder", "PlaceholderWithDefault"})
# Operations of several answers, with the attribute that says how many; two where none does.
_SEVERAL = {"TopK": "", "TopKV2": "", "Split": "num_split", "SplitV": "num_split", "Unpack": "num"}


def read_graph(path: Path) -> Any:
    """The GraphDef of a file.

    Raises:
        ExportError: there is none, or it takes nothing.
    """
    graph_def = tf.compat.v1.GraphDef()
    try:
        graph_def.ParseFromString(path.read_bytes())
    except FileNotFoundError as error:
        raise ExportError(f"{path} does not exist: expected a SavedModel folder or a frozen GraphDef (.pb)") from error
    except Exception as error:
        raise ExportError(f"{path} cannot be read as a frozen GraphDef: {error}") from error
    if not any(node.op.startswith("Placeholder") for node in graph_def.node):
        raise ExportError(f"{path} has no placeholder, so nothing can be its input: freeze the graph for inference")
    return graph_def


@dataclass(frozen=True)
class Frozen:
    """A graph without variables.

    Attributes:
        graph_def: the graph.
        inputs: name → tensor of what a signature declares; empty where the placeholders' own names are all there is.
        outputs: name → tensor, likewise; else what nothing reads.
        weights: tensor → array for placeholders that stand for variables too large for the graph.
    """

    graph_def: Any
    inputs: dict[str, str] = field(default_factory=dict)
    outputs: dict[str, str] = field(default_factory=dict)
    weights: dict[str, np.ndarray] = field(default_factory=dict)

    def feeds(self, inputs: Sequence[Input]) -> dict[str, Input]:
        """Tensor → declared input, in order.

        Raises:
            InputsError: an input is neither in the signature nor a placeholder.
        """
        operations = {node.name for node in self.graph_def.node}
        found = {}
        for item in inputs:
            if item.name not in self.inputs and operation(item.name) not in operations:
                known = [*self.inputs] or [str(spec.name) for spec in placeholders(self.graph_def)]
                raise InputsError(f"the graph has no placeholder {item.name!r}: it takes {', '.join(known)}")
            found[self.inputs.get(item.name, tensor_name(item.name))] = item
        return found

    def fetches(self, wanted: Sequence[str] | None) -> dict[str, str]:
        """Output → tensor: those that are wanted, where these are names of the graph's own; else all of them.

        Raises:
            InputsError: some of the names are the graph's own, and others are not.
        """
        known = self.outputs or _ends(self.graph_def)
        operations = {node.name for node in self.graph_def.node}
        named = known | {name: tensor_name(name) for name in wanted or () if operation(name) in operations}
        missing = [name for name in wanted or () if name not in named]
        if wanted is None or len(missing) == len(wanted):
            return known
        if missing:
            raise InputsError(
                f"outputs names {', '.join(wanted)}, and the graph has no {', '.join(missing)}: its outputs are "
                f"{', '.join(known)}. Name operations of the graph, or all of its outputs anew in this order"
            )
        return {name: self.outputs.get(name, named[name]) for name in wanted}


def placeholders(graph_def: Any) -> list[tf.TensorSpec]:
    """What the outputs need: placeholders without a value of their own."""
    wanted = _behind(graph_def, output_names(graph_def))
    return [
        tf.TensorSpec(tf.TensorShape(node.attr["shape"].shape), tf.as_dtype(node.attr["dtype"].type), name=node.name)
        for node in graph_def.node
        if node.op == "Placeholder" and node.name in wanted
    ]


def output_names(graph_def: Any) -> list[str]:
    """The operations that no other reads."""
    read = {operation(name) for node in graph_def.node for name in node.input}
    return [node.name for node in graph_def.node if node.name not in read and node.op not in _NO_OUTPUT]


def _ends(graph_def: Any) -> dict[str, str]:
    """Name → tensor of every output: the last part of the operation's name, the whole of it where two share that."""
    counts = {node.name: _answers(node) for node in graph_def.node}
    tensors = [f"{name}:{i}" for name in output_names(graph_def) for i in range(counts[name])]
    short = [tensor.rpartition("/")[2].removesuffix(":0") for tensor in tensors]
    return {
        name if short.count(name) == 1 else tensor.removesuffix(":0"): tensor
        for name, tensor in zip(short, tensors, strict=True)
    }


def _answers(node: Any) -> int:
    """How many tensors of an operation that ends a graph are outputs of it."""
    attribute = _SEVERAL.get(node.op)
    return 1 if attribute is None else node.attr[attribute].i if attribute else 2


def tensor_name(name: str) -> str:
    """An operation's first tensor, or the tensor that is named: "x" and "x:0" are one."""
    return name if ":" in name else f"{name}:0"


def prepared(source: Frozen, feeds: Mapping[str, Input], fetches: Iterable[str]) -> Any:
    """A copy of the graph that tf2onnx converts as TensorFlow runs it.

    With control flow v2 a graph holds `While` and `If` operations over functions. TensorFlow marks them to be lowered
    to Switch and Merge where a session runs them, and tf2onnx's own optimising pass does that at once: what is left is
    neither v1's loop, which tf2onnx recognises, nor v2's, and the TensorLists in it become an invalid file. Without the
    mark the operations stay whole.

    Raises:
        InputsError: a placeholder that the outputs need is no input.
    """
    graph = tf.compat.v1.GraphDef()
    graph.CopyFrom(source.graph_def)
    for nodes in (graph.node, *(function.node_def for function in graph.library.function)):
        for node in nodes:
            node.attr.pop("_lower_using_switch_merge", None)
    declared = {operation(tensor): item for tensor, item in feeds.items()}
    by_name = {node.name: node for node in graph.node}
    for name, item in declared.items():
        if by_name[name].op.startswith("Placeholder"):
            _declare(by_name[name], item)
    for name in _behind(source.graph_def, [operation(tensor) for tensor in fetches], stop=declared):
        if name in declared or tensor_name(name) in source.weights:
            continue
        if by_name[name].op == "PlaceholderWithDefault":
            _use_default(by_name[name])
        elif by_name[name].op == "Placeholder":
            raise InputsError(
                f"the outputs also need the placeholder {name!r}, which inputs does not name: "
                "add it, or give it a value before freezing (tf.compat.v1.placeholder_with_default)"
            )
    return graph


def pruned(
    source: Frozen, feeds: Iterable[str], fetches: Mapping[str, str]
) -> Callable[[Sequence[Any]], dict[str, Any]]:
    """The graph from these tensors to those (name → tensor), run by TensorFlow in a session of its own.

    As a function, its loops would meet those of the same names in the caller's own graph, and TensorFlow refuses two.
    """
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(source.graph_def, name="")
    session = tf.compat.v1.Session(graph=graph)
    names, wanted = list(feeds), list(fetches.values())

    def run(values: Sequence[Any]) -> dict[str, Any]:
        arrays = map(np.asarray, values)
        given = dict(zip(names, arrays, strict=True)) | source.weights
        return dict(zip(fetches, session.run(wanted, given), strict=True))

    return run


def operation(name: str) -> str:
    """The operation that a tensor, or a control input, is of."""
    return name.lstrip("^").partition(":")[0]


def _behind(graph_def: Any, names: Iterable[str], stop: Iterable[str] = ()) -> set[str]:
    """Every operation that these depend on, themselves included, not looking behind those in `stop`."""
    inputs = {node.name: node.input for node in graph_def.node}
    found: set[str] = set()
    stack = [name for name in names if name in inputs]
    ends = set(stop)
    while stack:
        name = stack.pop()
        if name not in found:
            found.add(name)
            stack.extend(operation(item) for item in inputs[name] if name not in ends)
    return found


def _declare(node: Any, item: Input) -> None:
    """A placeholder of the declared shape, which the graph may have left open."""
    dtype = node.attr["dtype"].type
    del node.input[:]
    node.op = "Placeholder"
    node.attr.pop("_output_shapes", None)
    node.attr["dtype"].type = dtype
    shape = node.attr["shape"].shape
    known = None if shape.unknown_rank else [dim.size for dim in shape.dim]
    sizes = [axis if isinstance(axis, int) else -1 for axis in item.axes]
    if known is not None and len(known) == len(sizes):  # what the graph itself fixes stays fixed
        sizes = [have if have >= 0 else want for have, want in zip(known, sizes, strict=True)]
    node.attr["shape"].shape.CopyFrom(tf.TensorShape([None if size < 0 else size for size in sizes]).as_proto())


def _use_default(node: Any) -> None:
    node.op = "Identity"
    node.attr["T"].type = node.attr.pop("dtype").type
    node.attr.pop("shape", None)
