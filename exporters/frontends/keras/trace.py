"""A model of Keras 3 or tf_keras in, a graph with neutral recurrent nodes out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Any

import keras
import numpy as np
import onnx_ir as ir
import tensorflow as tf

from seqport.exporters.arrangement import Arrangement
from seqport.exporters.capture import Arrays, Capture
from seqport.exporters.comparisons import Notes
from seqport.exporters.errors import ExportError, Refusal
from seqport.exporters.frontends.keras.call import Call, callers, flatten_outputs
from seqport.exporters.frontends.keras.compiled import CompiledLoops
from seqport.exporters.frontends.keras.cudnn import without_cudnn
from seqport.exporters.frontends.keras.library import (
    has_users_code,
    is_a,
    is_legacy,
    layers_of,
    path_of,
    shapes_noted,
)
from seqport.exporters.frontends.keras.patches import recurrent_layers_whole
from seqport.exporters.frontends.keras.stateful import KeptStates
from seqport.exporters.frontends.naming import chosen_outputs, order_outputs
from seqport.exporters.frontends.noting.running import NotedRuns
from seqport.exporters.frontends.tensorflow.convert import explained, plain_name, quiet, rename, translated
from seqport.exporters.frontends.tensorflow.functions import functions_traced_afresh
from seqport.exporters.frontends.tensorflow.loops import lift_loops
from seqport.exporters.frontends.tensorflow.noting import noted_run, sizes_noted
from seqport.exporters.signature import Input


def trace(model: Any, arrangement: Arrangement, outputs: Sequence[str] | None, opset: int) -> Capture:
    """Trace a live model.

    Raises:
        InputsError: the model takes other inputs, or gives another number of outputs.
        ExportError: TensorFlow cannot trace the model, or tf2onnx cannot translate it.
    """
    if not is_legacy(model) and keras.backend.backend() != "tensorflow":
        raise ExportError(
            f"Keras runs on the {keras.backend.backend()} backend: expected tensorflow. "
            "Remedy: set KERAS_BACKEND=tensorflow before keras is imported, and load the model there"
        )
    kept = KeptStates(model, next((item.axes[0] for item in arrangement.inputs if item.axes), "batch"))
    inputs = [*arrangement.inputs, *kept.inputs]
    refusals: list[Refusal] = []
    calls = callers(model, arrangement)
    call, function, names = _traced(calls, inputs, kept, refusals)
    if kept.leave_unmet():
        refusals.clear()
        inputs = [*arrangement.inputs, *kept.inputs]
        call, function, names = _traced(calls, inputs, kept, refusals)
    names = [*chosen_outputs(_named_by_layers(model, names, outputs), outputs, inputs), *kept.output_names]
    with quiet():
        graph = _translated(function, opset, refusals)
        rename(graph, inputs, names)
        order_outputs(graph.graph, names, outputs)
        lift_loops(graph, refusals)
    library = "tf_keras" if is_legacy(model) else "keras"
    loops = CompiledLoops()
    return Capture(
        model=graph,
        inputs=tuple(inputs),
        convention="keras",
        source={"framework": library, **{p: version(p) for p in (library, "tensorflow", "tf2onnx")}},
        reference=lambda arrays, again=False: _run(call, loops, inputs, kept, names, arrays, again),
        refusals=refusals,
        padding_values=_padding_values(model, inputs),
        runs_python=has_users_code(model),
        noted=_noted(model, lambda arrays: _run(call, loops, inputs, kept, names, arrays, again=False)),
        notes=_notes(model),
    )


def _noted(model: Any, run: Callable[[Arrays], dict[str, np.ndarray]]) -> Callable[[Arrays, bool], Notes] | None:
    """Runs that note what the user's own code compares sizes with; None for a model of the library's layers alone."""
    if not has_users_code(model):
        return None
    runs = NotedRuns(layers_of(model), sizes_noted, shapes_noted())
    return lambda arrays, _: noted_run(runs, lambda: run(arrays), arrays)


def _named_by_layers(model: Any, names: list[str], wanted: Sequence[str] | None) -> list[str]:
    """For outputs without names of their own, those of the layers that give them, where the user means these."""
    layers = getattr(model, "output_names", None)
    plain = names == [f"output_{i}" for i in range(len(names))]
    meant = isinstance(layers, list) and len(layers) == len(names) and set(layers) & set(wanted or ())
    return list(layers) if plain and meant and isinstance(layers, list) else names


def _traced(
    calls: Sequence[Call], inputs: Sequence[Input], kept: KeptStates, refusals: list[Refusal]
) -> tuple[Call, Any, list[str]]:
    """The way to call the model that traces, the traced tf.function, and the model's own output names."""
    failure: Exception | None = None
    refused: list[Refusal] = []
    for call in calls:
        names: list[str] = []
        function = _function(call, inputs, kept, names)
        try:
            with quiet(), recurrent_layers_whole(refusals, kept), functions_traced_afresh():
                function.get_concrete_function()
        except Exception as error:
            failure, refused = failure or error, [*refused, *refusals]
            refusals.clear()
        else:
            return call, function, names
    assert failure is not None
    if refused:
        raise _refused(refused) from failure
    raise explained(failure) from failure


def _translated(function: Any, opset: int, refusals: Sequence[Refusal]) -> ir.Model:
    """The traced function as a graph; what a refused layer left in it may be more than tf2onnx can translate.

    Raises:
        ExportError: it cannot be translated.
    """
    try:
        return translated(function, opset)
    except ExportError as error:
        if not refusals:
            raise
        raise _refused(refusals) from error


def _refused(refusals: Sequence[Refusal]) -> ExportError:
    """Of layers without a native form, where the trace went no further."""
    return ExportError("\n".join(map(str, dict.fromkeys(refusals))))


def _function(call: Call, inputs: Sequence[Input], kept: KeptStates, names: list[str]) -> Any:
    """The model as a tf.function of plainly named inputs and outputs; tracing it fills in the model's own names."""
    own = len(inputs) - len(kept.inputs)

    def flat(*values: Any) -> dict[str, Any]:
        with kept.traced(values[own:]):
            found, leaves = flatten_outputs(call(values[:own]))
        names[:] = found
        # An Identity each: an output may be an input, or two outputs one tensor.
        return {plain_name("out", i): tf.identity(leaf) for i, leaf in enumerate([*leaves, *kept.outputs()])}

    signature = [
        tf.TensorSpec([a if isinstance(a, int) else None for a in item.axes], item.dtype, name=plain_name("in", i))
        for i, item in enumerate(inputs)
    ]
    return tf.function(flat, input_signature=signature, autograph=False)


def _run(
    call: Call,
    loops: CompiledLoops,
    inputs: Sequence[Input],
    kept: KeptStates,
    names: Sequence[str],
    arrays: Arrays,
    again: bool,
) -> dict[str, np.ndarray]:
    values = [tf.constant(arrays[item.name]) for item in inputs]
    own = len(inputs) - len(kept.inputs)
    with quiet(), without_cudnn(), loops.in_place(), tf.device("CPU:0"):
        if again and not kept.layers:
            call(values[:own])
        with kept.run_from([np.asarray(value) for value in values[own:]]) as finals:
            _, leaves = flatten_outputs(call(values[:own]))
    return {name: np.asarray(leaf) for name, leaf in zip(names, [*leaves, *finals], strict=True)}


def _notes(model: Any) -> list[str]:
    """Layers whose arithmetic the artifact does in another precision than the model."""
    return [
        f"{path_of(layer)}: computed in float32; the model computes it in {layer.compute_dtype}"
        for layer in layers_of(model)
        if is_a(layer, "RNN") and layer.compute_dtype != "float32"
    ]


def _padding_values(model: Any, inputs: Sequence[Input]) -> dict[str, float]:
    """What `Masking` layers take for padding; Embedding(mask_zero=True) takes 0, the default."""
    values = {layer.mask_value for layer in layers_of(model) if is_a(layer, "Masking")}
    if len(values) != 1:
        return {}
    value = float(values.pop())
    return {item.name: value for item in inputs if item.dtype.startswith("float") and len(item.axes) >= 3}
