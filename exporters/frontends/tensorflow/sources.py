"""What TensorFlow brings, as something to call: a function, a SavedModel, a frozen graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tensorflow as tf

from seqport.exporters.arrangement import Arrangement
from seqport.exporters.errors import ExportError
from seqport.exporters.frontends.naming import order_of
from seqport.exporters.frontends.tensorflow.graphs import Frozen, placeholders, pruned, read_graph
from seqport.exporters.frontends.tensorflow.saved_v1 import frozen, meta_graph
from seqport.exporters.signature import Input

# One tensor an input, in the declared order, to name → tensor.
Run = Callable[[Sequence[Any]], dict[str, Any]]


@dataclass(frozen=True)
class Source:
    """A model of TensorFlow.

    Attributes:
        kind: for the metadata.
        known: the inputs that the model declares, or None.
        run: how to call it, for an arrangement of inputs.
        frozen: the graph, where that is all there is.
    """

    kind: str
    known: list[Input] | None
    run: Callable[[Arrangement], Run]
    frozen: Frozen | None = None


def source_of(model: Any) -> Source:
    """Read a model of any of these kinds.

    Raises:
        ExportError: it is none of them, or cannot be read.
    """
    if isinstance(model, (str, Path)):
        path = Path(model)
        return _saved_model(path) if path.is_dir() else _graph_def(path)
    if hasattr(model, "structured_input_signature"):
        return _concrete(model, "concrete function")
    if hasattr(model, "get_concrete_function"):
        return Source("function", _signature(getattr(model, "input_signature", None)), lambda a: _spread(model, a))
    known = getattr(vars(type(model)).get("__call__"), "input_signature", None)  # where it is a tf.function
    return Source("Module", _signature(known), lambda a: _spread(model, a))


def _spread(function: Any, arrangement: Arrangement) -> Run:
    return lambda values: _named(function(*arrangement.arguments(values)))


def _named(result: Any) -> dict[str, Any]:
    if isinstance(result, dict):
        return {str(key): value for key, value in result.items()}
    leaves = tf.nest.flatten(result)
    return {"output": leaves[0]} if len(leaves) == 1 else {f"output_{i}": leaf for i, leaf in enumerate(leaves)}


def _saved_model(path: Path) -> Source:
    """A folder as tf.saved_model.save, Keras's export and TF 1 write it; its default signature is what is exported."""
    meta = meta_graph(path)
    if meta is not None:
        return _frozen("SavedModel", *frozen(path, meta))
    try:
        loaded: Any = tf.saved_model.load(str(path))
    except Exception as error:
        raise ExportError(f"{path} cannot be read as a SavedModel: {error}") from error
    signatures = dict(getattr(loaded, "signatures", {}))
    if not signatures:
        raise ExportError(f"{path} has no signature: save it with signatures=, or export the live model")
    chosen = signatures.get("serving_default") or signatures[min(signatures)]
    source = _concrete(chosen, "SavedModel", _argument_names(loaded))
    # The function holds its variables weakly; the loaded object must live as long as the source.
    return Source(source.kind, source.known, lambda a, keep=loaded: source.run(a))  # noqa: ARG005


def _argument_names(loaded: Any) -> list[str]:
    """The arguments of the function that Keras's `export` saves beside the signature, in the model's own order."""
    functions = getattr(getattr(loaded, "serve", None), "concrete_functions", [])
    return [name for function in functions[:1] for name in _names(_tensors(function.structured_input_signature))]


def _concrete(function: Any, kind: str, order: Sequence[str] = ()) -> Source:
    """A concrete function; a loaded one takes and gives names without an order: `order` first, then by name."""
    positional, named = function.structured_input_signature
    named = {name: named[name] for name in sorted(named, key=lambda name: _rank(name, order))}
    specs = _tensors([positional, *named.values()])
    names = _names(specs)
    ordered = not named or set(named) <= set(order)

    def run(arrangement: Arrangement) -> Run:
        if not arrangement.is_flat:
            given = len(arrangement.arguments(arrangement.inputs))
            bound = [] if _tensors(positional[given:]) else positional[given:]
            return lambda values: _named(function(*arrangement.arguments(values), *bound))
        places = order_of([item.name for item in arrangement.inputs], names, ordered=ordered)

        def call(values: Sequence[Any]) -> dict[str, Any]:
            given = iter([values[place] for place in places])
            # What is no spec is a value of Python's, which the function was traced with.
            arguments, keywords = tf.nest.map_structure(
                lambda leaf: next(given) if isinstance(leaf, tf.TypeSpec) else leaf, (positional, list(named.values()))
            )
            result = _named(function(*arguments, **dict(zip(named, keywords, strict=True))))
            return _in_order(result) if named else result

        return call

    return Source(kind, _signature(specs), run)


def _rank(name: str, order: Sequence[str]) -> tuple[int, str, int]:
    """Sorts names: those of the order first, others by name, "output_10" after "output_9"."""
    place = order.index(name) if name in order else len(order)
    digits = len(name) - len(name.rstrip("0123456789"))
    return place, name[: len(name) - digits], int(name[len(name) - digits :] or 0)


def _in_order(result: dict[str, Any]) -> dict[str, Any]:
    return {name: result[name] for name in sorted(result, key=lambda name: _rank(name, ()))}


def _graph_def(path: Path) -> Source:
    """A frozen graph; its inputs are named as its placeholders."""
    graph_def = read_graph(path)
    return _frozen("GraphDef", Frozen(graph_def), placeholders(graph_def))


def _frozen(kind: str, graph: Frozen, specs: Sequence[tf.TensorSpec]) -> Source:
    def run(arrangement: Arrangement) -> Run:
        return pruned(graph, graph.feeds(arrangement.inputs), graph.fetches(None))

    return Source(kind, _signature(specs), run, graph)


def _tensors(specs: Any) -> list[Any]:
    """The specs in a structure, without values of Python's that a function is bound to."""
    return [leaf for leaf in tf.nest.flatten(specs) if isinstance(leaf, tf.TypeSpec)]


def _names(specs: Sequence[Any]) -> list[str]:
    """The specs' names, a number for one that has none."""
    return [getattr(spec, "name", None) or f"input_{i}" for i, spec in enumerate(specs)]


def _signature(specs: Any) -> list[Input] | None:
    """Inputs for TensorSpecs: the batch first, then time. None where one is ragged or of any rank."""
    flat = _tensors(specs)
    if not flat or any(not isinstance(spec, tf.TensorSpec) or spec.shape.rank is None for spec in flat):
        return None
    found = []
    with_time = [s.name for s in flat if s.shape.rank and s.shape.rank > 1 and s.shape[1] is None]
    for name, spec in zip(_names(flat), flat, strict=True):
        axes: list[str | int] = []
        for position, size in enumerate(spec.shape.as_list()):
            if size is not None:
                axes.append(size)
            elif position == 0 or ("batch" not in axes and spec.shape[0] is not None):
                axes.append("batch")
            else:
                axes.append("seq" if position == 1 and len(with_time) == 1 else f"{name}_{position}")
        found.append(Input(name, tuple(axes), spec.dtype.name))
    return found
