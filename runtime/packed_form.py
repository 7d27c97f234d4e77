"""Makes the packed form of a model, for a session to open beside the file or in its place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqport.runtime.packing_choice import Prepared

if TYPE_CHECKING:
    import onnxruntime

    from seqport.runtime.rewriting.measure import Measure

# Settings of the threads → what was measured with them
_MEASURES: dict[Any, Measure] = {}


OpenBytes = Callable[[bytes], "onnxruntime.InferenceSession"]


def packed_form(path: Path, open_bytes: OpenBytes, threads: Any) -> Prepared | str:
    """The packed form of a file, opened; or why there is none.

    Args:
        path: the ONNX file.
        open_bytes: opens a serialized model, on the CPU.
        threads: the settings that `open_bytes` opens with; measured costs are kept by them.
    """
    try:
        from seqport.runtime.rewriting.machine import rewrite_file
    except ImportError as error:
        return f"rewriting a model needs the package onnx ({error}): pip install onnx"

    rewritten = rewrite_file(path, measure_with(open_bytes, threads))
    if rewritten is None:
        return "no recurrent layer of it takes lengths and has constant float32 weights in the main graph"
    try:
        data = rewritten.model.SerializeToString()
    except ValueError as error:  # protobuf ends at 2 GiB
        return f"the rewritten model cannot be handed to ONNX Runtime: {error}"
    return Prepared(open_bytes(data), rewritten.plans, rewritten.weights)


def measure_with(open_bytes: OpenBytes, threads: Any) -> Measure:
    """What measures layers for sessions of these settings: the same for all of the process."""
    from seqport.runtime.rewriting.measure import Measure

    def runner(model: bytes) -> Callable[[dict[str, Any]], object]:
        session = open_bytes(model)
        return lambda feed: session.run(None, feed)

    return _MEASURES.setdefault(threads, Measure(runner))
