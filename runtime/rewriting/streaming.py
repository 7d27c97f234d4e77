"""Opens an artifact for streams: its states laid open, and the proof that chunks give what one run gives."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from seqport.runtime.artifact import Description
from seqport.runtime.errors import CannotStreamError
from seqport.runtime.external import data_files
from seqport.runtime.rewriting.culprit import Open, culprit
from seqport.runtime.rewriting.reach import reach
from seqport.runtime.rewriting.reading import Dims, Reading, X, is_recurrent, known_dims
from seqport.runtime.rewriting.states import expose_states
from seqport.runtime.stream_model import StreamModel
from seqport.runtime.stream_proof import Arrays, Draw, mismatch
from seqport.runtime.stream_signature import Chunk, StreamSignature

Run = Callable[[dict[str, Any]], Mapping[str, np.ndarray]]
# A proof of more steps than these would take too long; what reaches over so many carries no state for it.
_FURTHEST = 2048


def open_for_streams(path: Path, description: Description, run: Run, open_bytes: Open) -> StreamModel:
    """Open a model for streams.

    Args:
        path: the artifact.
        description: what it says of itself.
        run: the artifact as it is: dict of arrays in, dict of arrays out.
        open_bytes: opens a rewritten model, whose weights outside the file stay where they are.

    Raises:
        CannotStreamError: it needs the whole sequence at once: which layer or output, and why.
    """
    model = onnx.load(path, load_external_data=False)
    dims = known_dims(model)
    reading = Reading(model)
    tables = {i.name: size for i in description.inputs if (size := reading.table_size(i.name)) is not None}
    signature = StreamSignature(description, _time_and_batch(model, dims), tables)
    draw = Draw.beyond(_reach(model, dims, signature), tables)
    axes = (signature.sequence.axis, signature.sequence.batch_axis)

    def elsewhere(node: onnx.NodeProto) -> bool:
        known = dims.get(node.input[X], ())
        return any(axis not in (None, wanted) for axis, wanted in zip(known, axes, strict=False))

    exposed = expose_states(model, description, signature.sequence.inputs, elsewhere)
    session = open_bytes(exposed.model.SerializeToString())
    opened = StreamModel(session, signature, exposed.states, fresh=exposed.fresh, artifact=_hash(path, description))

    def whole(chunks: Sequence[Chunk]) -> list[Arrays]:
        feed = signature.feed(chunks)
        for name in signature.states:
            feed[name] = np.stack([chunk.arrays[name] for chunk in chunks], signature.inputs[name].batch)
        outputs = run(feed)
        return [signature.cut(outputs, place, chunk.steps) for place, chunk in enumerate(chunks)]

    try:
        said = mismatch(opened, whole, draw, masked_steps=True)
        if said and signature.mask_inputs:  # what it gives at a masked step may depend on the chunk before
            signature.masked_steps_allowed = False
            said = mismatch(opened, whole, draw, masked_steps=False)
    except Exception as error:
        reason = " ".join(str(error).split())
        raise CannotStreamError(f"the model cannot stream: it fails on chunks of random steps: {reason}") from error
    if said:
        named = culprit(exposed.model, description, opened, draw, open_bytes)
        raise CannotStreamError(f"the model cannot stream: {named + '; ' if named else ''}{said}")
    return opened


def _time_and_batch(model: onnx.ModelProto, dims: dict[str, Dims]) -> tuple[str | int | None, str | int | None]:
    """The axes of steps and rows, [seq, batch, input_dim], that the first recurrent layer reads which knows them."""
    known = [dims.get(node.input[X], ())[:2] for node in model.graph.node if is_recurrent(node)]
    whole = [axes for axes in known if len(axes) == 2 and None not in axes]
    time, batch = next(iter([*whole, *filter(None, known)]), (None, None))
    return time, batch


def _reach(model: onnx.ModelProto, dims: dict[str, Dims], signature: StreamSignature) -> int:
    steps = reach(model, dims, str(signature.sequence.axis))
    if steps > _FURTHEST:
        raise CannotStreamError(
            f"the model cannot stream: its layers look over {steps} steps, and only recurrent layers carry a state"
        )
    return steps


def _hash(path: Path, description: Description) -> str:
    """The weights' hash; where the artifact has none, that of its file and of those beside it."""
    if description.weights_sha256:
        return description.weights_sha256
    digest = hashlib.sha256()
    for file in (path, *sorted(data_files(path))):
        with file.open("rb") as opened:
            digest.update(hashlib.file_digest(opened, "sha256").digest())
    return digest.hexdigest()
