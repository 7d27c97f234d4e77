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


def packed_form(
    path: Path, open_bytes: Callable[[bytes], onnxruntime.InferenceSession], threads: Any
) -> Prepared | str:
    """The packed form of a file, opened; or why there is none.

    Args:
        path: the ONNX file.
        open_bytes: opens a serialized model, on the CPU.
        threads: the settings that `open_bytes` opens with; measured costs are kept by them.
    """
    try:
        from seqport.runtime.rewriting.machine import rewrite_file
        from seqport.runtime.rewriting.measure import Measure
    except ImportError as error:
        return f"rewriting a model needs the package onnx ({error}): pip install onnx"

    def runner(model: bytes) -> Callable[[dict[str, Any]], object]:
        session = open_bytes(model)
        return lambda feed: session.run(None, feed)

    rewritten = rewrite_file(path, _MEASURES.setdefault(threads, Measure(runner)))
    if rewritten is None:
        return "no recurrent layer of it takes lengths and has constant float32 weights in the main graph"
    try:
        data = rewritten.model.SerializeToString()
    except ValueError as error:  # protobuf ends at 2 GiB
        return f"the rewritten model cannot be handed to ONNX Runtime: {error}"
    return Prepared(open_bytes(data), rewritten.plans, rewritten.weights)
