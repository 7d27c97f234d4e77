"""How a Keras model is called: which inputs it declares, in which structure, and what it returns."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from seqport.exporters.arrangement import Arrangement
from seqport.exporters.errors import InputsError
from seqport.exporters.frontends.keras.library import is_legacy, libraries
from seqport.exporters.frontends.naming import order_of, require_places
from seqport.exporters.signature import Input

Call = Callable[[Sequence[Any]], Any]


def known_inputs(model: Any) -> list[list[Input]]:
    """The inputs of a Functional or built Sequential model, with named axes.

    The first axis is "batch". The second is "seq" where it is dynamic in one input only. Where several inputs have
    one, their sizes may differ or be one: each has its own ("query_seq"), or else all share "seq".

    Raises:
        InputsError: the model does not know its inputs (a subclassed or unbuilt one).
    """
    tensors = _declared(model)
    if tensors is None:
        raise InputsError(
            f"inputs is missing, and the model {model.name!r} does not declare its own (subclassed or not built): "
            'pass inputs=[Input("ids", ("batch", "seq"), "int64"), ...]'
        )
    fixed = [_name(t) for t in tensors if t.shape and None not in t.shape]
    # A Functional model has the sizes that its author gave; a Sequential one may have those of its first batch.
    if fixed and _is_sequential(model):
        raise InputsError(
            f"inputs is missing, and the model {model.name!r} fixes every axis of {fixed[0]!r}, the batch too "
            '(it was built by a call, or with a batch size): pass inputs=[Input("ids", ("batch", "seq"), "int64"), ...]'
        )
    with_time = [t for t in tensors if len(t.shape) > 1 and t.shape[1] is None]
    found = []
    for tensor in tensors:
        axes: list[str | int] = []
        for position, size in enumerate(tensor.shape):
            if size is not None:
                axes.append(size)
            elif position == 0:
                axes.append("batch")
            elif position == 1:
                axes.append("seq" if len(with_time) == 1 else f"{_name(tensor)}_seq")
            else:
                axes.append(f"{_name(tensor)}_{position}")
        found.append(Input(_name(tensor), tuple(axes), tf.as_dtype(tensor.dtype).name))
    if len(with_time) < 2:
        return [found]
    own = {f"{_name(tensor)}_seq" for tensor in with_time}
    shared = [Input(i.name, tuple("seq" if axis in own else axis for axis in i.axes), i.dtype) for i in found]
    return [found, shared]


def callers(model: Any, arrangement: Arrangement) -> list[Call]:
    """Functions of one tensor an input, in the declared order, that call the model for inference.

    A Functional model says in which structure it takes its inputs. A subclassed one does not: where its `call` has a
    parameter of each input's name they go there; else its first parameter may be a list or a dict of them, or they
    may be its parameters in order. Which, only a trace can tell.

    Raises:
        InputsError: the model takes another number of inputs.
    """
    tensors, inputs = _declared(model), arrangement.inputs
    if not arrangement.is_flat:
        return [lambda values: model(*arrangement.arguments(values), training=False)]
    if tensors is not None:
        return [_declared_caller(model, tensors, inputs)]
    names = [item.name for item in inputs]
    parameters = _parameters(model)
    if len(inputs) > 1 and set(names) <= set(parameters) and parameters[0] in names:
        return [lambda values: _by_name(model, parameters[0], dict(zip(names, values, strict=True)))]
    if len(inputs) == 1:
        return [lambda values: model(values[0], training=False)]
    takes_all = len(parameters) >= len(inputs) or _takes_any_number(model)
    if takes_all:
        own: list[str | None] = [*parameters, *[None] * len(names)][: len(names)]
        require_places(names, own, parameters[len(names) :], parameters=True)
    spread: list[Call] = [lambda values: model(*values, training=False)] if takes_all else []
    return [
        *spread,
        lambda values: model(list(values), training=False),
        lambda values: model(dict(zip(names, values, strict=True)), training=False),
    ]


def _parameters(model: Any) -> list[str]:
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    parameters = inspect.signature(model.call).parameters.values()
    return [p.name for p in parameters if p.kind in kinds and p.name != "training"]


def _takes_any_number(model: Any) -> bool:
    """Whether its `call` has *inputs; without a `training` of its own, Keras keeps that from it."""
    parameters = inspect.signature(model.call).parameters.values()
    return any(p.kind is inspect.Parameter.VAR_POSITIONAL for p in parameters)


def _by_name(model: Any, first: str, values: dict[str, Any]) -> Any:
    """Keras wants the first argument by position."""
    return model(values.pop(first), **values, training=False)


def _declared_caller(model: Any, tensors: Sequence[Any], inputs: Sequence[Input]) -> Call:
    names, wanted = [item.name for item in inputs], [_name(tensor) for tensor in tensors]
    order = order_of(names, wanted, ordered=True)
    structure = getattr(model, "_nested_inputs" if is_legacy(model) else "_inputs_struct", None)

    def call(values: Sequence[Any]) -> Any:
        flat = [values[i] for i in order]
        packed = flat[0] if structure is None else tf.nest.pack_sequence_as(structure, flat)
        return model(packed, training=False)

    return call


def _is_sequential(model: Any) -> bool:
    return isinstance(model, tuple(library.Sequential for library in libraries()))


def _declared(model: Any) -> Sequence[Any] | None:
    """The model's own symbolic inputs, or None."""
    tensors = getattr(model, "inputs", None)
    if not tensors:
        return None
    if is_legacy(model):
        return tensors if model._is_graph_network else None
    return tensors if isinstance(model, keras.Sequential) or hasattr(model, "_inputs_struct") else None


def _name(tensor: Any) -> str:
    """The user's name of a symbolic input, which TensorFlow may have given a number."""
    return tensor.name.partition(":")[0]


def flatten_outputs(result: Any) -> tuple[list[str], list[Any]]:
    """Names and tensors of whatever the model returned, in its own order; bfloat16, which NumPy lacks, as float32."""
    if isinstance(result, dict):
        pairs = [
            (f"{key}_{i}" if len(leaves) > 1 else str(key), leaf)
            for key, value in result.items()
            for leaves in [tf.nest.flatten(value)]
            for i, leaf in enumerate(leaves)
        ]
    else:
        leaves = tf.nest.flatten(result)
        pairs = [("output" if len(leaves) == 1 else f"output_{i}", leaf) for i, leaf in enumerate(leaves)]
    leaves = [tf.cast(leaf, tf.float32) if leaf.dtype == "bfloat16" else leaf for _, leaf in pairs]
    return [name for name, _ in pairs], leaves
