"""Where "auto" runs a model whose recurrent nodes CUDA has no kernel for: rewritten on the GPU, or on the CPU.

A rewritten node costs some 50 µs a step on a GPU, whatever its size, so that the CPU wins where a step is small. That
depends on both processors: each model is timed on the two that are there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

from seqport.runtime import cuda, trial
from seqport.runtime.artifact import Description
from seqport.runtime.errors import InputError, ProviderError
from seqport.runtime.host import Host
from seqport.runtime.providers import Opened, open_model
from seqport.runtime.readiness import trial_inputs

_DEVICE = 0
_ROWS, _STEPS = 32, 64
_ROUNDS = 3
# The GPU must win by more than a busy moment may pretend.
_CLEARLY = 0.8


def on_gpu_if_faster(
    path: Path, host: Host, run: Callable[[Mapping[str, Any]], object], signature: Description
) -> tuple[Opened | None, str]:
    """Open a model that went to the CPU on the first GPU, rewritten, and time both on made-up input.

    Args:
        path: the file.
        host: its threads and memory.
        run: runs it on the CPU.
        signature: its inputs.

    Returns:
        The model on the GPU where that is clearly faster, else None; and what was measured, for the session's note:
        empty where nothing could be.
    """
    if cuda.problem(_DEVICE) or trial.problem(_DEVICE):
        return None, ""
    try:
        opened = open_model(path, f"cuda:{_DEVICE}", host=host, cuda_rewrite=True)
        feed = trial_inputs(signature, rows=_ROWS, steps=_STEPS)
        times = _medians(lambda: run(feed), lambda: opened.session.run(None, feed))
    except (ProviderError, InputError):  # it cannot be rewritten, or no input made up: the CPU runs it
        return None, ""
    except Exception:  # ONNX Runtime's error types have no common root
        return None, ""
    on_cpu, on_gpu = times
    said = f"{_ROWS} made-up rows of {_STEPS} steps took {1e3 * on_gpu:.2g} ms, and {1e3 * on_cpu:.2g} on the CPU"
    return (opened if on_gpu < _CLEARLY * on_cpu else None), said


def _medians(*calls: Callable[[], object]) -> list[float]:
    for call in calls:
        call()
    rounds = [[_seconds(call) for call in calls] for _ in range(_ROUNDS)]
    return [median(times) for times in zip(*rounds, strict=True)]


def _seconds(call: Callable[[], object]) -> float:
    start = perf_counter()
    call()
    return perf_counter() - start
