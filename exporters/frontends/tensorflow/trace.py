"""A model of TensorFlow in, a graph with neutral recurrent nodes out: Keras's layers captured, loops lifted."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import tensorflow as tf

from seqport.exporters.arrangement import Arrangement
from seqport.exporters.capture import Arrays, Capture
from seqport.exporters.errors import InputsError, Refusal
from seqport.exporters.frontends.naming import chosen_outputs, name_interface, order_outputs
from seqport.exporters.frontends.noting.running import NotedRuns
from seqport.exporters.frontends.tensorflow.convert import (
    converted,
    explained,
    plain_name,
    quiet,
    rename,
    translated,
)
from seqport.exporters.frontends.tensorflow.eager import eager
from seqport.exporters.frontends.tensorflow.freeze import keep_constants
from seqport.exporters.frontends.tensorflow.functions import functions_traced_afresh
from seqport.exporters.frontends.tensorflow.graphs import Frozen, prepared, pruned
from seqport.exporters.frontends.tensorflow.loops import lift_loops
from seqport.exporters.frontends.tensorflow.noting import noted_run, sizes_noted
from seqport.exporters.frontends.tensorflow.sources import Run, source_of
from seqport.exporters.signature import Input


@eager
def known_inputs(model: Any) -> list[list[Input]]:
    """The inputs that the model declares.

    Raises:
        InputsError: it declares none, or not their shapes.
    """
    known = source_of(model).known
    if known is None:
        raise InputsError(
            "inputs is missing, and the model does not declare its own, or not their shapes (a tensor of any rank, "
            "a ragged one): "
            'pass inputs=[Input("x", ("batch", "seq", 8)), ...] in the order of its arguments'
        )
    time = {axis for item in known for axis in item.axes[1:2] if isinstance(axis, str)}
    shared = [Input(i.name, tuple("seq" if axis in time else axis for axis in i.axes), i.dtype) for i in known]
    return [known, shared] if len(time) > 1 else [known]


@eager
def trace(model: Any, arrangement: Arrangement, outputs: Sequence[str] | None, opset: int) -> Capture:
    """Trace a function, a SavedModel folder or a frozen GraphDef.

    Raises:
        InputsError: the model takes other inputs, or gives another number of outputs.
        ExportError: the model cannot be read, traced or translated.
    """
    source, inputs = source_of(model), arrangement.inputs
    refusals: list[Refusal] = []
    with quiet():
        if source.frozen is not None:
            graph, names, run = _frozen(source.frozen, inputs, outputs, opset)
        else:
            run = source.run(arrangement)
            graph, names = _called(run, inputs, outputs, opset, refusals)
        notes = lift_loops(graph, refusals)
    runs_python = source.frozen is None and not isinstance(model, (str, Path))
    runs = NotedRuns([model], sizes_noted)
    return Capture(
        model=graph,
        inputs=tuple(inputs),
        convention="tensorflow",
        source={"framework": source.kind, **{p: version(p) for p in ("tensorflow", "tf2onnx")}},
        reference=lambda arrays, again=False: _run(run, inputs, names, arrays, again),
        refusals=refusals,
        runs_python=runs_python,
        notes=notes,
        noted=(lambda arrays, _: noted_run(runs, lambda: _run(run, inputs, names, arrays, again=False), arrays))
        if runs_python
        else None,
    )


def _called(
    run: Run, inputs: Sequence[Input], outputs: Sequence[str] | None, opset: int, refusals: list[Refusal]
) -> tuple[ir.Model, list[str]]:
    found: list[str] = []

    def flat(*values: Any) -> dict[str, Any]:
        result = run(values)
        found[:] = result
        return {plain_name("out", i): tf.identity(leaf) for i, leaf in enumerate(result.values())}

    signature = [
        tf.TensorSpec([a if isinstance(a, int) else None for a in item.axes], item.dtype, name=plain_name("in", i))
        for i, item in enumerate(inputs)
    ]
    function = tf.function(flat, input_signature=signature, autograph=False)
    try:
        with _keras_layers_whole(refusals), functions_traced_afresh():
            function.get_concrete_function()
    except Exception as error:
        raise explained(error) from error
    graph = translated(function, opset)
    names = chosen_outputs(found, outputs, inputs)
    rename(graph, inputs, names)
    order_outputs(graph.graph, names, outputs)
    return graph, names


@contextmanager
def _keras_layers_whole(refusals: list[Refusal]) -> Iterator[None]:
    """A function may call layers of Keras, which are captured whole; where nobody imported it there are none."""
    if not {"keras", "tf_keras"} & set(sys.modules):
        yield
        return
    from seqport.exporters.frontends.keras.patches import recurrent_layers_whole
    from seqport.exporters.frontends.keras.stateful import KeptStates

    with recurrent_layers_whole(refusals, KeptStates(None, "batch")):
        yield


def _frozen(
    source: Frozen, inputs: Sequence[Input], outputs: Sequence[str] | None, opset: int
) -> tuple[ir.Model, list[str], Run]:
    feeds, fetches = source.feeds(inputs), source.fetches(outputs)
    names = chosen_outputs(list(fetches), outputs, inputs)
    tensors = list(fetches.values())
    graph = converted(prepared(source, feeds, tensors), list(feeds), tensors, opset)
    keep_constants(graph.graph, source.weights)
    by_name = {value.name: value for value in [*graph.graph.inputs, *graph.graph.outputs]}
    graph.graph.inputs[:] = [by_name[name] for name in feeds]
    graph.graph.outputs[:] = [by_name[name] for name in tensors]
    name_interface(graph.graph, inputs, names)
    return graph, names, pruned(source, feeds, dict(zip(names, tensors, strict=True)))


@eager
def _run(run: Run, inputs: Sequence[Input], names: Sequence[str], arrays: Arrays, again: bool) -> dict[str, np.ndarray]:
    results = [run([tf.constant(arrays[item.name]) for item in inputs]) for _ in range(1 + again)]
    return {name: np.asarray(leaf) for name, leaf in zip(names, results[-1].values(), strict=True)}
