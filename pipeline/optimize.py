"""Writes what a session would run packed into a file of its own, for hosts without seqport."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from seqport.pipeline.errors import PipelineError

# The metadata property that says how the file was rewritten.
OPTIMIZED_KEY = "seqport.optimized"


@dataclass(frozen=True)
class Optimized:
    """What was written.

    Attributes:
        layers: the names of the recurrent nodes that leave the padding out.
        by_steps: those of them that are computed by steps instead of by ONNX Runtime's node.
    """

    layers: tuple[str, ...]
    by_steps: tuple[str, ...]


def optimize(source: Path, target: Path, *, threads: int | None = None) -> Optimized:
    """Rewrite an ONNX file so that its recurrent layers leave the padding out, as this machine does it fastest.

    The answers are the artifact's; the form is not: layers stand in Scans, so `check` is for the artifact itself.

    Args:
        source: any ONNX file.
        target: the file to write, whole or not at all; may be the same.
        threads: that the file will run with; None is one a core.

    Raises:
        NotOnnxError: the source is no ONNX file.
        PipelineError: nothing in it can be packed, or its weights are not all there.
    """
    import onnx
    import onnx_ir as ir

    from seqport.exporters.write import write
    from seqport.runtime.artifact import read_metadata
    from seqport.runtime.external import require_data_files
    from seqport.runtime.host import Host
    from seqport.runtime.packed_form import measure_with
    from seqport.runtime.rewriting.machine import rewrite
    from seqport.runtime.threads import Threads

    read_metadata(source)  # says what is wrong with a file that is no ONNX model
    require_data_files(source)
    model = onnx.load(source)
    rewritten = rewrite(model, source.parent, measure_with(Host(Threads(threads))))
    if rewritten is None:
        raise PipelineError(
            f"{source}: nothing to optimize: no recurrent layer takes lengths and has constant float32 weights in the "
            "main graph; give lengths to the model where rows differ in length, and export it again"
        )
    entry = model.metadata_props.add()
    entry.key, entry.value = OPTIMIZED_KEY, json.dumps({"threads": threads, "layers": rewritten.layers})
    write(ir.serde.deserialize_model(model), target)
    return Optimized(
        tuple(rewritten.layers), tuple(name for name, form in rewritten.layers.items() if form == "by_steps")
    )
