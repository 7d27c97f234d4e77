"""An nn.Module in, a graph with neutral recurrent nodes out."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from torch import nn
from torch.utils import _pytree as pytree

from seqport.exporters.capture import Arrays, Capture
from seqport.exporters.errors import ExportError, InputsError, RefusedError
from seqport.exporters.frontends.pytorch.patches import recurrent_layers_whole
from seqport.exporters.signature import Input, axis_names

# torch.onnx translates to this opset; the passes convert from it to the one asked for.
_TRACED_OPSET = 18
# Sizes of the dynamic axes while tracing. Values never matter (the tensors are fake), but a size of 1
# would be taken for a constant, and a convolution over time needs some steps.
_FIRST_SIZE = 19


def trace(model: nn.Module, inputs: Sequence[Input], outputs: Sequence[str] | None, opset: int) -> Capture:  # noqa: ARG001
    """Trace a module whose forward takes the inputs in their order.

    Raises:
        InputsError: forward takes other inputs, or gives another number of outputs.
        RefusedError: a recurrent layer is used in a way that has no native form.
        ExportError: PyTorch cannot trace or translate the module; its own reason follows.
    """
    with _inference(model), _quiet():
        program = _export(model, inputs)
        _require_dynamic(program, inputs)
        names = _output_names(program, outputs)
        graph = _translate(program)
    for value, item in zip(graph.graph.inputs, inputs, strict=True):
        value.name = item.name
    for value, name in zip(graph.graph.outputs, names, strict=True):
        value.name = name
    return Capture(
        model=graph,
        inputs=tuple(inputs),
        convention="pytorch",
        source={"framework": "pytorch", "torch": torch.__version__},
        reference=lambda arrays: _run(model, inputs, names, arrays),
    )


def _export(model: nn.Module, inputs: Sequence[Input]) -> torch.export.ExportedProgram:
    sizes = {name: _FIRST_SIZE + 4 * i for i, name in enumerate(axis_names(inputs))}
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    example = tuple(torch.zeros(item.shape(sizes), dtype=getattr(torch, item.dtype), device=device) for item in inputs)
    shapes = tuple(dict.fromkeys(item.dynamic_axes, torch.export.Dim.AUTO) for item in inputs)
    try:
        with recurrent_layers_whole(model):
            # forward may take *args or wrap its inputs, so the shapes are given by position.
            return torch.export.export(model, example, dynamic_shapes=_by_position(model, shapes), strict=False)
    except Exception as error:
        raise _explained(error, inputs) from error


def _by_position(model: nn.Module, shapes: tuple[Any, ...]) -> Any:
    """`dynamic_shapes` for torch.export: a module whose forward is (*args) wants them nested once more."""
    import inspect

    kinds = [p.kind for p in inspect.signature(model.forward).parameters.values()]
    return (shapes,) if kinds[:1] == [inspect.Parameter.VAR_POSITIONAL] else shapes


def _explained(error: Exception, inputs: Sequence[Input]) -> ExportError:
    """The refusal that a capture raised, wherever the tracer has wrapped it; else the tracer's own words."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, RefusedError):
            return seen
        seen = seen.__cause__ or seen.__context__
    reason = str(error).strip().split("\n\n")[0]
    if isinstance(error, TypeError):
        names = ", ".join(item.name for item in inputs)
        return InputsError(f"forward does not take the declared inputs ({names}): {reason}")
    return ExportError(
        f"PyTorch cannot trace the module: {type(error).__name__}: {reason}. "
        "Remedy: keep forward free of Python values taken from tensors (.item(), .tolist(), int(...), "
        "if on a tensor), or run those parts outside the exported module"
    )


def _require_dynamic(program: torch.export.ExportedProgram, inputs: Sequence[Input]) -> None:
    """Refuse a trace in which a declared dynamic axis became a constant."""
    from torch.fx.experimental.symbolic_shapes import is_concrete_int

    values = {node.name: node.meta.get("val") for node in program.graph.nodes if node.op == "placeholder"}
    for name, item in zip(program.graph_signature.user_inputs, inputs, strict=True):
        value = values[name]
        for position, axis in item.dynamic_axes.items():
            if isinstance(value, torch.Tensor) and is_concrete_int(value.shape[position]):
                raise RefusedError(
                    "the model",
                    f"fixes axis {axis!r} of input {item.name!r} while it is traced "
                    "(a Python loop over time steps does, or a shape taken as an int)",
                    "use nn.RNN, nn.GRU or nn.LSTM for the loop, keep sizes symbolic (x.size(1), not int(...)), "
                    f"or declare the axis with its fixed size instead of {axis!r}",
                )


def _output_names(program: torch.export.ExportedProgram, outputs: Sequence[str] | None) -> list[str]:
    spec = program.call_spec.out_spec
    assert spec is not None
    paths = [path for path, _ in pytree.tree_flatten_with_path(pytree.tree_unflatten(range(spec.num_leaves), spec))[0]]
    if outputs is not None:
        if len(outputs) != len(paths):
            raise InputsError(f"outputs names {len(outputs)} outputs {list(outputs)}, and forward gives {len(paths)}")
        return list(outputs)
    if len(paths) == 1 and not paths[0]:
        return ["output"]
    return [_path_name(path) for path in paths]


def _path_name(path: Sequence[Any]) -> str:
    keys = [str(getattr(key, "key", getattr(key, "name", getattr(key, "idx", key)))) for key in path]
    return "_".join(["output", *keys] if keys[0].isdigit() else keys)


def _translate(program: torch.export.ExportedProgram) -> ir.Model:
    try:
        onnx_program = torch.onnx.export(program, dynamo=True, opset_version=_TRACED_OPSET, verbose=False)
    except Exception as error:
        reason = str(error).strip().rsplit("## Exception summary", maxsplit=1)[-1].strip()
        raise ExportError(
            f"PyTorch traced the module but cannot translate it to ONNX: {reason}. "
            "Remedy: replace the operation named above by one that torch.onnx knows"
        ) from error
    assert onnx_program is not None
    return onnx_program.model


def _run(model: nn.Module, inputs: Sequence[Input], names: Sequence[str], arrays: Arrays) -> dict[str, np.ndarray]:
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    with _inference(model), torch.no_grad():
        tensors = [torch.from_numpy(np.array(arrays[item.name])).to(device) for item in inputs]
        leaves = pytree.tree_leaves(model(*tensors))
    return {name: leaf.cpu().numpy() for name, leaf in zip(names, leaves, strict=True)}


@contextmanager
def _inference(model: nn.Module) -> Iterator[None]:
    """Evaluation mode for every submodule, each put back as it was."""
    modes: Mapping[nn.Module, bool] = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence what torch.onnx says about packages that this export does not need."""
    logger = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
