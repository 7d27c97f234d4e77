"""An nn.Module in, a graph with neutral recurrent nodes out."""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module

import numpy as np
import onnx_ir as ir
import torch
from torch import nn

from seqport.exporters.arrangement import Arrangement
from seqport.exporters.capture import Arrays, Capture
from seqport.exporters.errors import ExportError, InputsError
from seqport.exporters.frontends.naming import chosen_outputs, name_interface, order_outputs
from seqport.exporters.frontends.patching import attribute, here
from seqport.exporters.frontends.pytorch.autocast import autocast_off
from seqport.exporters.frontends.pytorch.datasizes import compute_sizes
from seqport.exporters.frontends.pytorch.flat import PREFIX
from seqport.exporters.frontends.pytorch.leaves import leaves
from seqport.exporters.frontends.pytorch.noting import Noting
from seqport.exporters.frontends.pytorch.program import Program, device_of, traced, traced_elsewhere
from seqport.exporters.frontends.pytorch.simplify import simplify
from seqport.exporters.frontends.pytorch.translations import TRANSLATIONS
from seqport.exporters.frontends.pytorch.untouched import untouched
from seqport.exporters.frontends.pytorch.unwrapped import unwrapped
from seqport.exporters.signature import Input

# torch.onnx translates to this opset; the passes convert from it to the one asked for.
_TRACED_OPSET = 18
_LOUD = (
    "torch.onnx._internal.exporter._registration",
    "torch.fx.experimental.symbolic_shapes",
    "torch._export",
    "torch.export",
)


def trace(model: nn.Module, arrangement: Arrangement, outputs: Sequence[str] | None, opset: int) -> Capture:  # noqa: ARG001
    """Trace a module whose forward takes the inputs in their order.

    Raises:
        InputsError: forward takes other inputs, or gives another number of outputs.
        RefusedError: a recurrent layer is used in a way that has no native form.
        ExportError: PyTorch cannot trace or translate the module; its own reason follows.
    """
    model = unwrapped(model)
    inputs = arrangement.inputs
    notes = _notes(model)
    if any(parameter.dtype in (torch.float16, torch.bfloat16) for parameter in model.parameters()):
        model = _in_float32(model, inputs)
    with untouched(model), _quiet(), autocast_off() as cast:
        program = traced(model, arrangement)
        capture = _capture(model, program, inputs, outputs)
    capture.notes = notes + [f"the model: computed without its autocast to {kind}" for kind in sorted(set(cast))]
    if capture.fixed_axes:
        capture.elsewhere = lambda: _elsewhere(model, program, outputs)
    return capture


def _elsewhere(model: nn.Module, like: Program, outputs: Sequence[str] | None) -> Capture:
    """The model traced once more, with other sizes of the axes that a loop fixes."""
    with untouched(model), _quiet(), autocast_off():
        return _capture(model, traced_elsewhere(model, like), like.arrangement.inputs, outputs)


def _capture(model: nn.Module, program: Program, inputs: Sequence[Input], outputs: Sequence[str] | None) -> Capture:
    names = chosen_outputs(program.outputs, outputs, inputs)
    told = {f"the longest length {i}": size for i, size in enumerate(program.told, 1)}
    noting = Noting(model)
    graph = _translate(program.exported, {*program.fixed.values(), *program.told})
    _own_names(graph.graph)
    if not told:
        compute_sizes(graph.graph, len(inputs), len(names))
    name_interface(graph.graph, inputs, [*names, *told])
    order_outputs(graph.graph, names, outputs)
    return Capture(
        model=graph,
        inputs=tuple(inputs),
        convention="pytorch",
        source={"framework": "pytorch", "torch": torch.__version__},
        reference=lambda arrays, again=False: _run(model, program.arrangement, names, arrays, again),
        fixed_axes={**program.fixed, **told},
        told=tuple(told),
        bounds=program.bounds,
        conditions=program.conditions,
        noted=lambda arrays, sized: noting.notes(
            lambda: _run(model, program.arrangement, names, arrays, again=False), sized=sized
        ),
    )


def _in_float32(model: nn.Module, inputs: Sequence[Input]) -> nn.Module:
    """A copy of a half-precision model in float32, which holds its weights exactly: ONNX Runtime's CPU has no half.

    Raises:
        InputsError: an input is declared in half precision.
    """
    half = [item.name for item in inputs if item.dtype == "float16"]
    if half:
        raise InputsError(
            f"input {half[0]!r} is declared float16, and a half-precision model is exported in float32: declare float32"
        )
    return copy.deepcopy(model).float()


def _notes(model: nn.Module) -> list[str]:
    """Layers whose arithmetic the artifact does in another precision than the model."""
    return [
        f"{name or 'the model'}: computed in float32; its weights are {str(dtype).removeprefix('torch.')}"
        for name, child in model.named_modules()
        if isinstance(child, nn.RNNBase) and (dtype := _dtype(child)) != torch.float32
    ]


def _dtype(layer: nn.RNNBase) -> torch.dtype:
    """Of the layer's weights, some of which its forward may be the first to set."""
    return next((p.dtype for p in layer.parameters()), torch.float32)


def _translate(program: torch.export.ExportedProgram, fixed: Collection[int]) -> ir.Model:
    """To ONNX; where sizes were fixed, what is made from them stays where the passes can find it."""
    try:
        onnx_program = torch.onnx.export(
            program,
            dynamo=True,
            opset_version=_TRACED_OPSET,
            verbose=False,
            optimize=False,
            custom_translation_table=TRANSLATIONS,
        )
    except Exception as error:
        reason = str(error).strip().rsplit("## Exception summary", maxsplit=1)[-1].strip()
        raise ExportError(
            f"PyTorch traced the module but cannot translate it to ONNX: {reason}. "
            "Remedy: replace the operation named above by one that torch.onnx knows"
        ) from error
    assert onnx_program is not None
    simplify(onnx_program.model, fixed)
    return onnx_program.model


def _own_names(graph: ir.Graph) -> None:
    """Weights by the names that they have in the user's module."""
    for name in [name for name in graph.initializers if name.startswith(PREFIX)]:
        value = graph.initializers.pop(name)
        value.name = name.removeprefix(PREFIX)
        graph.initializers[value.name] = value


def _run(
    model: nn.Module, arrangement: Arrangement, names: Sequence[str], arrays: Arrays, again: bool
) -> dict[str, np.ndarray]:
    with untouched(model), torch.no_grad(), autocast_off():
        tensors = [torch.from_numpy(np.array(arrays[item.name])).to(device_of(model)) for item in arrangement.inputs]
        results = [arrangement.call(model, tensors) for _ in range(1 + again)]
        found = [torch.as_tensor(leaf) for _, leaf in leaves(results[-1])]
    return {name: leaf.cpu().numpy() for name, leaf in zip(names, found, strict=True)}


def _nothing(*_: object, **__: object) -> None:
    """Prints nothing."""


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence what PyTorch says about packages that this export does not need, and about each way that failed.

    It prints the graph of a trace that failed; the reason is in the error, which the export reports.
    """
    exporting = import_module("torch.export._trace")
    loggers = [logging.getLogger(name) for name in _LOUD]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), attribute(exporting, "print", here(_nothing, print)):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
