"""What a GPU is given to run: the file as it is, or with the recurrent nodes rewritten that CUDA has no kernel for."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

# After a rewritten node's name, how the names of the nodes begin that run at each step.
STEP = "/step"


@dataclass(frozen=True)
class GpuModel:
    """A model for CUDA.

    Attributes:
        model: the bytes to open; None for the file itself.
        rewritten: each rewritten node's name to what cuDNN does not know of it.
        left: each node's name that stays on the CPU, to the reasons.
        obstacle: why nothing is known of the nodes, to stand in a sentence; empty where they were read.
    """

    model: bytes | None
    rewritten: Mapping[str, Sequence[str]] = field(default_factory=dict)
    left: Mapping[str, Sequence[str]] = field(default_factory=dict)
    obstacle: str = ""


def gpu_model(path: Path, model: bytes | None, *, rewrite: bool) -> GpuModel:
    """Read a model for CUDA, and rewrite it where that is wanted and needed.

    Args:
        path: the file.
        model: bytes that stand in its place; None for the file.
        rewrite: whether to rewrite; else the nodes are only named.
    """
    if importlib.util.find_spec("onnx") is None:
        return GpuModel(model, obstacle=" (pip install onnx to have them named with the reasons, and rewritten)")
    from seqport.runtime.rewriting.cuda_forms import for_cuda

    return GpuModel(*for_cuda(path, model, rewrite=rewrite))
