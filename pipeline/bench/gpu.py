"""The GPU half: the same races with ONNX Runtime on CUDA and PyTorch with cuDNN, where a GPU is."""

from __future__ import annotations

from itertools import product

from seqport.pipeline.bench.cases import CELLS, Case, Network

_SIZES = (256, 1024)
_BATCHES = (1, 32, 128)
_FILLS = (1.0, 0.2)


def problem() -> str | None:
    """Why nothing can be measured here, with the remedy; None where it can."""
    from seqport.runtime import cuda

    return cuda.problem(0)


def device() -> str:
    """The GPU's name and memory; PyTorch is asked, which races on it too."""
    import torch

    properties = torch.cuda.get_device_properties(0)
    return f"{properties.name}, {properties.total_memory / 1e9:.0f} GB, CUDA {torch.version.cuda}"


def cases() -> list[Case]:
    """Padded batches in one and two directions, and streams; those of one network together."""
    found: list[Case] = []
    for cell, size in product(CELLS, _SIZES):
        found.append(Case(Network(cell, size, with_state=True), "stream", steps=1))
        for bidirectional in (False, True):
            network = Network(cell, size, bidirectional)
            found += [Case(network, batch=b, fill=fill) for b, fill in product(_BATCHES, _FILLS)]
    return found
