"""Makes the packed form of a model, for a session to open beside the file or in its place."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqport.runtime.host import Host
from seqport.runtime.opening import CPU_PROVIDER, open_session
from seqport.runtime.packing_choice import Prepared

if TYPE_CHECKING:
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
    return Prepared(open_bytes(data), rewritten.plans, rewritten.weights)


@functools.lru_cache(maxsize=16)
def measure_with(host: Host) -> Measure:
    """What measures layers for sessions of these settings: the same for all of the process."""
    from seqport.runtime.rewriting.measure import Measure

    def runner(model: bytes) -> Callable[[dict[str, Any]], object]:
        session = open_session(model, host, CPU_PROVIDER)
        return lambda feed: session.run(None, feed)

    return Measure(runner)
