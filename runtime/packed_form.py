"""Makes the packed form of a model, for a session to open beside the file or in its place."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqport.runtime.host import Host
from seqport.runtime.opening import CPU_PROVIDER, open_session
from seqport.runtime.packing_choice import LengthsOf, Prepared

if TYPE_CHECKING:
    import numpy as np
    import onnxruntime

    from seqport.runtime.rewriting.measure import Measure

OpenBytes = Callable[[bytes], "onnxruntime.InferenceSession"]


def packed_form(path: Path, open_bytes: OpenBytes, host: Host) -> Prepared | str:
    """The packed form of a file, opened; or why there is none.

    Args:
        path: the ONNX file.
        open_bytes: opens a serialized model, on the CPU.
        host: the threads that it opens with; costs are measured with them.
    """
    try:
        from seqport.runtime.rewriting.machine import rewrite_file
    except ImportError as error:
        return f"rewriting a model needs the package onnx ({error}): pip install onnx"

    rewritten = rewrite_file(path, measure_with(host))
    if rewritten is None:
        return (
            "no recurrent layer of it takes lengths and has constant float32 weights in the main graph (opset 17 to 23)"
        )
    try:
        data = rewritten.model.SerializeToString()
    except ValueError as error:  # protobuf ends at 2 GiB
        return f"the rewritten model cannot be handed to ONNX Runtime: {error}"
    plans = tuple((_lengths_of(plan.lengths, plan.counting, open_bytes), cost) for plan, cost in rewritten.plans)
    return Prepared(open_bytes(data), plans, rewritten.weights)


def _lengths_of(name: str, counting: bytes, open_bytes: OpenBytes) -> LengthsOf:
    """How lengths follow from a batch: they are one of its inputs, or a small model counts them."""
    if name or not counting:
        return lambda feed: feed.get(name)
    session = open_bytes(counting)
    needed = [value.name for value in session.get_inputs()]

    def counted(feed: Mapping[str, Any]) -> np.ndarray | None:
        try:
            return session.run(None, {name: feed[name] for name in needed})[0]  # type: ignore[return-value]
        except Exception:  # the model itself says what it does not take
            return None

    return counted


@functools.lru_cache(maxsize=16)
def measure_with(host: Host) -> Measure:
    """What measures layers for sessions of these settings: the same for all of the process."""
    from seqport.runtime.rewriting.measure import Measure

    def runner(model: bytes) -> Callable[[dict[str, Any]], object]:
        session = open_session(model, host, CPU_PROVIDER)
        return lambda feed: session.run(None, feed)

    return Measure(runner)
