"""An nn.Module in, a graph with neutral recurrent nodes out."""

from __future__ import annotations

import copy
import inspect
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from onnxscript import optimizer
from torch import nn
from torch.utils import _pytree as pytree

from seqport.exporters.arrangement import Arrangement
from seqport.exporters.capture import Arrays, Capture
from seqport.exporters.errors import ExportError, InputsError, RefusedError, refusal_behind
from seqport.exporters.frontends.naming import chosen_outputs, name_interface
from seqport.exporters.frontends.pytorch.arguments import arrangements
from seqport.exporters.frontends.pytorch.cells import has_cells
from seqport.exporters.frontends.pytorch.patches import recurrent_layers_whole
from seqport.exporters.frontends.pytorch.untouched import untouched
from seqport.exporters.signature import Input, axis_names

# torch.onnx translates to this opset; the passes convert from it to the one asked for.
_TRACED_OPSET = 18
# Sizes of the dynamic axes while tracing. Values never matter (the tensors are fake), but a size of 1
# would be taken for a constant, and a convolution over time needs some steps.
_FIRST_SIZE = 19
# Operators whose result holds a size that may have been traced.
_OF_SIZES = frozenset({"Range", "Expand", "ConstantOfShape"})
# A size that no input reaches; torch.export writes infinity as something larger.
_UNBOUNDED = 2**31
_PRIMES = (7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97)


def trace(model: nn.Module, arrangement: Arrangement, outputs: Sequence[str] | None, opset: int) -> Capture:  # noqa: ARG001
    """Trace a module whose forward takes the inputs in their order.

    Raises:
        InputsError: forward takes other inputs, or gives another number of outputs.
        RefusedError: a recurrent layer is used in a way that has no native form.
        ExportError: PyTorch cannot trace or translate the module; its own reason follows.
    """
    model = _unwrapped(model)
    inputs = arrangement.inputs
    notes = _notes(model)
    if any(parameter.dtype in (torch.float16, torch.bfloat16) for parameter in model.parameters()):
        model = _in_float32(model, inputs)
    with untouched(model), _quiet():
        program, arrangement = _export(model, arrangement)
        fixed = _fixed_axes(program, inputs)
        if fixed and not has_cells(model):
            raise _fixed(fixed)
        names = _output_names(program, outputs, inputs)
        graph = _translate(program, folded=not fixed)
    name_interface(graph.graph, inputs, names)
    return Capture(
        model=graph,
        inputs=tuple(inputs),
        convention="pytorch",
        source={"framework": "pytorch", "torch": torch.__version__},
        reference=lambda arrays, again=False: _run(model, arrangement, names, arrays, again),
        fixed_axes={axis: size for axis, (_, size) in fixed.items()},
        notes=notes,
    )


def _unwrapped(model: nn.Module) -> nn.Module:
    """The module behind torch.compile or DataParallel.

    Raises:
        RefusedError: a ScriptModule, whose layers cannot be traced whole.
    """
    if isinstance(model, torch.jit.ScriptModule):
        raise RefusedError(
            "the model",
            f"is a torch.jit.{type(model).__name__}, whose recurrent layers are compiled already",
            "export the nn.Module that it was scripted or traced from",
        )
    if isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
        return _unwrapped(model.module)
    inner = getattr(model, "_orig_mod", None)
    return _unwrapped(inner) if isinstance(inner, nn.Module) else model


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
        if isinstance(child, nn.RNNBase) and (dtype := child.weight_hh_l0.dtype) != torch.float32
    ]


def _export(model: nn.Module, arrangement: Arrangement) -> tuple[torch.export.ExportedProgram, Arrangement]:
    """The traced program, and the arrangement of inputs that the module's forward took."""
    inputs = arrangement.inputs
    sizes = _traced_sizes(model, inputs)
    example = [torch.zeros(i.shape(sizes), dtype=getattr(torch, i.dtype), device=_device(model)) for i in inputs]
    shapes = [dict.fromkeys(item.dynamic_axes, torch.export.Dim.AUTO) for item in inputs]
    failure: Exception | None = None
    for candidate in arrangements(model, arrangement):
        for symbolic_int in (False, True):
            try:
                with recurrent_layers_whole(model, symbolic_int=symbolic_int):
                    program = torch.export.export(
                        model,
                        candidate.arguments(example),
                        dynamic_shapes=_by_position(model, candidate.arguments(shapes)),
                        strict=False,
                    )
                _require_unbounded(program, inputs)
                if _fixed_axes(program, inputs) and not symbolic_int and not has_cells(model):
                    continue  # int(x.size(1)) may have done that
            except Exception as error:
                failure = failure or error
            else:
                return program, candidate
    assert failure is not None
    raise _explained(failure, inputs) from failure


def _require_unbounded(program: torch.export.ExportedProgram, inputs: Sequence[Input]) -> None:
    """Refuse a trace that holds only for sizes up to a bound: it took one side of a Python branch on a size.

    A bound from below may be no branch but what an operator needs (a convolution its kernel); the probe tells
    those apart.
    """
    values = {node.name: node.meta.get("val") for node in program.graph.nodes if node.op == "placeholder"}
    for name, item in zip(program.graph_signature.user_inputs, inputs, strict=True):
        value = values[str(name)]
        for position, axis in item.dynamic_axes.items():
            size = value.shape[position] if isinstance(value, torch.Tensor) else None
            bounds = program.range_constraints.get(size.node.expr) if isinstance(size, torch.SymInt) else None
            if bounds is not None and bounds.upper < _UNBOUNDED:
                raise RefusedError(
                    "the model",
                    f"was traced on one side of a Python branch: it holds for {axis!r} of {int(bounds.upper)} at most",
                    f"write the branch with tensor operations (n = min(x.size(1), {int(bounds.upper)}); x[:, :n]), or "
                    f"declare {axis!r} with a fixed size",
                )


def _traced_sizes(model: nn.Module, inputs: Sequence[Input]) -> dict[str, int]:
    """A size for every dynamic axis; where loops will unroll, small ones that no weight has."""
    names = axis_names(inputs)
    if not has_cells(model):
        return {name: _FIRST_SIZE + 4 * i for i, name in enumerate(names)}
    taken = {size for p in model.parameters() for size in p.shape} | {
        a for i in inputs for a in i.axes if isinstance(a, int)
    }
    free = [size for size in _PRIMES if size not in taken]
    return dict(zip(names, free, strict=False))


def _by_position(model: nn.Module, shapes: tuple[Any, ...]) -> Any:
    """`dynamic_shapes` for torch.export: a module whose forward is (*args) wants them nested once more."""
    kinds = [p.kind for p in inspect.signature(model.forward).parameters.values()]
    return (shapes,) if kinds[:1] == [inspect.Parameter.VAR_POSITIONAL] else shapes


def _device(model: nn.Module) -> torch.device:
    return next((p.device for p in model.parameters()), torch.device("cpu"))


def _explained(error: Exception, inputs: Sequence[Input]) -> ExportError:
    """The refusal that a capture raised, wherever the tracer has wrapped it; else the tracer's own words."""
    if (refusal := refusal_behind(error)) is not None:
        return refusal
    reason = str(error).strip().split("\n\n")[0]
    if isinstance(error, TypeError) and "argument" in reason:
        names = ", ".join(item.name for item in inputs)
        return InputsError(f"forward does not take the declared inputs ({names}): {reason}")
    return ExportError(
        f"PyTorch cannot trace the module: {type(error).__name__}: {reason}. "
        "Remedy: keep forward free of Python values taken from tensors (.item(), .tolist(), int(...), "
        "if on a tensor), or run those parts outside the exported module"
    )


def _fixed_axes(program: torch.export.ExportedProgram, inputs: Sequence[Input]) -> dict[str, tuple[str, int]]:
    """Declared dynamic axes that the trace made constants: axis → (an input that has it, the traced size)."""
    from torch.fx.experimental.symbolic_shapes import is_concrete_int

    values = {node.name: node.meta.get("val") for node in program.graph.nodes if node.op == "placeholder"}
    fixed: dict[str, tuple[str, int]] = {}
    for name, item in zip(program.graph_signature.user_inputs, inputs, strict=True):
        value = values[str(name)]
        for position, axis in item.dynamic_axes.items():
            if isinstance(value, torch.Tensor) and is_concrete_int(value.shape[position]):
                fixed.setdefault(axis, (item.name, int(value.shape[position])))
    return fixed


def _fixed(axes: Mapping[str, tuple[str, int]]) -> RefusedError:
    axis, (name, _) = next(iter(axes.items()))
    return RefusedError(
        "the model",
        f"fixes axis {axis!r} of input {name!r} while it is traced "
        "(a Python loop over time steps does, or a shape taken as an int)",
        "use nn.RNN, nn.GRU or nn.LSTM for the loop, keep sizes symbolic (x.size(1), not len(x)), "
        f"or declare the axis with its fixed size instead of {axis!r}",
    )


def _output_names(
    program: torch.export.ExportedProgram, outputs: Sequence[str] | None, inputs: Sequence[Input]
) -> list[str]:
    spec = program.call_spec.out_spec
    assert spec is not None
    leaves = pytree.tree_unflatten(range(spec.num_leaves), spec)
    paths = [path for path, _ in pytree.tree_flatten_with_path(leaves)[0]]
    found = []
    for path, output in zip(paths, program.graph_signature.user_outputs, strict=True):
        if output is None:  # an output that is None is none
            continue
        if not isinstance(output, str):
            raise InputsError(
                f"forward returns {output!r} ({_path_name(path)}), which is no tensor: return tensors, or leave it out"
            )
        found.append(_path_name(path) if path else "output")
    return chosen_outputs(found, outputs, inputs)


def _path_name(path: Sequence[Any]) -> str:
    keys = [str(getattr(key, "key", getattr(key, "name", getattr(key, "idx", key)))) for key in path]
    return "_".join(["output", *keys] if keys[0].isdigit() else keys)


def _translate(program: torch.export.ExportedProgram, *, folded: bool) -> ir.Model:
    """To ONNX; unless folded, what is made from traced sizes stays where the passes can find it."""
    try:
        onnx_program = torch.onnx.export(
            program, dynamo=True, opset_version=_TRACED_OPSET, verbose=False, optimize=folded
        )
    except Exception as error:
        reason = str(error).strip().rsplit("## Exception summary", maxsplit=1)[-1].strip()
        raise ExportError(
            f"PyTorch traced the module but cannot translate it to ONNX: {reason}. "
            "Remedy: replace the operation named above by one that torch.onnx knows"
        ) from error
    assert onnx_program is not None
    if not folded:
        optimizer.fold_constants(
            onnx_program.model, onnx_shape_inference=False, should_fold=lambda node: node.op_type not in _OF_SIZES
        )
    return onnx_program.model


def _run(
    model: nn.Module, arrangement: Arrangement, names: Sequence[str], arrays: Arrays, again: bool
) -> dict[str, np.ndarray]:
    with untouched(model), torch.no_grad():
        tensors = [torch.from_numpy(np.array(arrays[item.name])).to(_device(model)) for item in arrangement.inputs]
        results = [model(*arrangement.arguments(tensors)) for _ in range(1 + again)]
    leaves = [leaf for leaf in pytree.tree_leaves(results[-1]) if leaf is not None]
    return {name: leaf.cpu().numpy() for name, leaf in zip(names, leaves, strict=True)}


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
