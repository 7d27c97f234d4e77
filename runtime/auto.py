"""Where "auto" runs a model whose recurrent nodes CUDA has no kernel for: rewritten on the GPU, or on the CPU.

A rewritten node costs tens of microseconds a step on a GPU, whatever its size, so that the CPU wins where a step is
small. That depends on both processors: each model is timed on the two that are there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from seqport.runtime import cuda, trial
from seqport.runtime.artifact import Description
from seqport.runtime.errors import ProviderError
from seqport.runtime.host import Host
from seqport.runtime.providers import Opened, open_model
from seqport.runtime.readiness import Run, check_ready, trial_inputs

_DEVICE = 0
_ROWS, _STEPS = 32, 64
_ROUNDS = 3
# The GPU must win by more than a busy moment may pretend.
_CLEARLY = 0.8
# So many times as long in the first round needs no other.
_DECIDED = 4.0


def on_gpu_if_faster(path: Path, host: Host, run: Run, signature: Description) -> tuple[Opened | None, str]:
    """Open a model that went to the CPU on the first GPU, rewritten, and time both on made-up rows.

    Args:
        path: the file.
        host: its threads and memory.
        run: runs it on the CPU.
        signature: its inputs; one that names no sequence gives no rows to make up.

    Returns:
        The model on the GPU where that is clearly faster and answers alike, else None; and what came of it, for the
        session's note: empty where there is nothing to try.
    """
    if not signature.sequences or cuda.problem(_DEVICE) or trial.problem(_DEVICE):
        return None, ""
    try:
        opened = open_model(path, f"cuda:{_DEVICE}", host=host, cuda_rewrite=True)
    except ProviderError:  # it cannot be rewritten: the note says so already
        return None, ""
    names = [info.name for info in signature.outputs]

    def run_on_gpu(feed: Mapping[str, Any]) -> dict[str, Any]:
        return dict(zip(names, opened.session.run(names, dict(feed)), strict=True))

    try:
        check_ready(run_on_gpu, run, signature, None)
        feed = trial_inputs(signature, rows=_ROWS, steps=_STEPS)
        on_cpu, on_gpu = _medians(lambda: run(feed), lambda: run_on_gpu(feed))
    except Exception as error:  # of ONNX Runtime, whose types have no common root, or no input can be made up
        return None, f"not tried rewritten on cuda:{_DEVICE}: {error}"
    said = f"{_sizes(signature, feed)} took {1e3 * on_gpu:.2g} ms, and {1e3 * on_cpu:.2g} on the CPU"
    return (opened if on_gpu < _CLEARLY * on_cpu else None), said


def _medians(*calls: Callable[[], object]) -> list[float]:
    for call in calls:
        call()
    rounds = [[_seconds(call) for call in calls]]
    while len(rounds) < _ROUNDS and max(rounds[0]) < _DECIDED * min(rounds[0]):
        rounds.append([_seconds(call) for call in calls])
    return [float(np.median(times)) for times in zip(*rounds, strict=True)]


def _seconds(call: Callable[[], object]) -> float:
    start = perf_counter()
    call()
    return perf_counter() - start


def _sizes(signature: Description, feed: Mapping[str, np.ndarray]) -> str:
    sequence = signature.sequences[0]
    name, steps = next(iter(sequence.inputs.items()))
    axes = next(info.axes for info in signature.inputs if info.name == name)
    shape = feed[name].shape
    return f"{shape[axes.index(sequence.batch_axis)]} made-up rows of {shape[steps]} steps"
