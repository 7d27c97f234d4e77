"""The nn.Module behind what a user passes, and what cannot be opened refused."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from seqport.exporters.errors import RefusedError

_QUANTIZED = ("torch.ao.nn.quantized", "torch.nn.quantized", "torch.ao.nn.qat")


def unwrapped(model: Any) -> nn.Module:
    """The module behind torch.compile or DataParallel.

    Raises:
        RefusedError: an exported program, or a part of the module is compiled or quantized, so that its layers cannot
            be traced whole.
    """
    if isinstance(model, torch.export.ExportedProgram) or _is_exported(model):
        raise RefusedError(
            "the model",
            "is what torch.export made, whose lengths and axes are as it was traced",
            "export the nn.Module that was given to torch.export.export",
        )
    if isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
        return unwrapped(model.module)
    inner = getattr(model, "_orig_mod", None)
    if isinstance(inner, nn.Module):
        return unwrapped(inner)
    for name, part in model.named_modules():
        _require_open(name or "the model", part)
    return model


def _is_exported(model: nn.Module) -> bool:
    return isinstance(model, torch.fx.GraphModule) and "_guards_fn" in dict(model.named_children())


def _require_open(name: str, part: nn.Module) -> None:
    if isinstance(part, torch.jit.ScriptModule):
        raise RefusedError(
            name,
            f"is a torch.jit.{type(part).__name__}, whose recurrent layers are compiled already",
            "export the nn.Module that it was scripted or traced from",
        )
    if str(type(part).__module__).startswith(_QUANTIZED):
        raise RefusedError(
            name,
            f"is a {type(part).__module__}.{type(part).__name__}, whose weights are packed for PyTorch alone",
            "export the float module that it was quantized from, and quantize the artifact",
        )
