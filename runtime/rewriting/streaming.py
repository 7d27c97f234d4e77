"""Opens an artifact for streams: its states laid open, and the proof that chunks give what one run gives."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from seqport.runtime.artifact import Description
from seqport.runtime.errors import CannotStreamError
from seqport.runtime.external import data_files
from seqport.runtime.rewriting.culprit import culprit
from seqport.runtime.rewriting.deciders import deciders, even
from seqport.runtime.rewriting.hidden import hidden
from seqport.runtime.rewriting.inner import Open, inner_values
from seqport.runtime.rewriting.mask_values import with_masks
from seqport.runtime.rewriting.onsets import onsets
from seqport.runtime.rewriting.reach import reach
from seqport.runtime.rewriting.reading import Dims, Reading, X, is_recurrent, known_dims
from seqport.runtime.rewriting.states import Exposed, expose_states
from seqport.runtime.stream_draws import Draw, MaskOf, whole_row
from seqport.runtime.stream_model import StreamModel
from seqport.runtime.stream_proof import Arrays, Whole, mismatch
from seqport.runtime.stream_signature import Chunk, StreamSignature
from seqport.runtime.stream_state import FRESH

Run = Callable[[dict[str, Any]], Mapping[str, np.ndarray]]
# A proof of more steps than these would take too long; what reaches over so many carries no state for it.
_FURTHEST = 2048
# What sets in later is beyond a proof, which goes twice as far.
_LATEST = 4096
_EVEN = 64  # steps of the proof in which a model decides evenly: more would only bring values close to a threshold
_STEPS = 5  # of a row that shows where a mask has its steps


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
    tables = _tables(description, reading)
    signature = StreamSignature(description, _time_and_batch(model, dims), tables)
    draw = Draw.beyond(_reach(model, dims, signature), tables, _onsets(model, signature, tables))
    axes = (signature.sequence.axis, signature.sequence.batch_axis)

    def elsewhere(node: onnx.NodeProto) -> bool:
        known = dims.get(node.input[X], ())
        return any(axis not in (None, wanted) for axis, wanted in zip(known, axes, strict=False))

    exposed = expose_states(model, description, signature.sequence.inputs, elsewhere)
    signature.set_first_only(exposed.first_only)
    opening = _Opening(exposed, signature, open_bytes, _hash(path, description))
    whole = _whole(signature, run)
    try:
        opened, draw, said = _proven(opening, whole, draw)
        late = "" if said else hidden(exposed.model, description, opened, draw, opening.mask_of(opened), open_bytes)
    except Exception as error:
        reason = " ".join(str(error).split())
        raise CannotStreamError(f"the model cannot stream: it fails on chunks of random steps: {reason}") from error
    if said:
        named = culprit(exposed.model, description, opened, draw, open_bytes)
        reasons = "; ".join(filter(None, (named, said, _states(signature))))
        raise CannotStreamError(f"the model cannot stream: {reasons}")
    if late:
        raise CannotStreamError(f"the model cannot stream: {late}")
    return opened


def _proven(opening: _Opening, whole: Whole, draw: Draw) -> tuple[StreamModel, Draw, str | None]:
    """The model opened, the draws that it takes, and what differs in all of them."""
    signature, opened = opening.signature, opening.opened()
    said: str | None = None
    for drawn in _draws(opened, whole, draw, opening.exposed.into_states):
        draw = drawn
        said = mismatch(opened, whole, draw, masked_steps=True)
        if said and signature.mask_inputs:  # what it gives at a masked step may depend on the chunk before
            opened = opening.refusing_masked_steps()
            said = mismatch(opened, whole, draw, masked_steps=False, mask_of=opening.mask_of(opened))
        said = said or opening.decides_otherwise(opened, draw)
        if said and signature.rows_share_runs:  # rows that change each other may stream, each in runs of its own
            signature.rows_share_runs = False
            masked = signature.masked_steps_allowed
            alone = mismatch(opened, whole, draw, masked_steps=masked, mask_of=opening.mask_of(opened))
            if alone := alone or opening.decides_otherwise(opened, draw):
                signature.rows_share_runs = True
            said = said if alone else None
        if not said:
            break
    return opened, draw, said


def _draws(opened: StreamModel, whole: Whole, draw: Draw, into_states: Sequence[str]) -> Iterator[Draw]:
    """The ways to draw inputs: of the numbers that the model takes, and with whatever leaves its states as they are.

    What goes into its own states (`h * keep`) does so at each chunk, as in the model itself: a sequence is the same
    whole and in chunks where it is 0 (a flag that forgets), or where it is 1 (one that keeps).
    """
    try:
        whole([whole_row(opened.signature, draw, np.random.default_rng(0), masked_steps=False)])
    except Exception:  # ids beyond a table that nobody has found, perhaps
        draw = replace(draw, numbers=2)
    yield from (replace(draw, held=dict.fromkeys(into_states, value)) for value in ((0, 1) if into_states else (0,)))


def _tables(description: Description, reading: Reading) -> dict[str, int]:
    """How many ids the tables have that inputs are looked up in."""
    read = {info.name: reading.table_size(info.name) for info in description.inputs}
    known = {name: largest + 1 for name, (_, largest) in description.tables.items()}
    return known | {name: min(size, known.get(name, size)) for name, size in read.items() if size is not None}


def _whole(signature: StreamSignature, run: Run) -> Whole:
    """Whole sequences of one size, in one batch."""

    def whole(chunks: Sequence[Chunk]) -> list[Arrays]:
        feed = signature.feed(chunks)
        for name in (*signature.states, *signature.first_only):
            feed[name] = np.stack([chunk.arrays[name] for chunk in chunks], signature.inputs[name].batch)
        outputs = run(feed)
        return [signature.cut(outputs, place, chunk.steps) for place, chunk in enumerate(chunks)]

    return whole


@dataclass(frozen=True)
class _Opening:
    """The ways to open one model whose states are exposed."""

    exposed: Exposed
    signature: StreamSignature
    open_bytes: Open
    artifact: str

    def opened(self, model: onnx.ModelProto | None = None, masks: Mapping[str, int] | None = None) -> StreamModel:
        """The model, or another in its place."""
        session = self.open_bytes((model or self.exposed.model).SerializeToString())
        exposed = self.exposed
        return StreamModel(
            session, self.signature, exposed.states, fresh=exposed.fresh, artifact=self.artifact, masks=masks
        )

    def refusing_masked_steps(self) -> StreamModel:
        """The model, which refuses chunks with masked steps: as its own mask says, else by the padding value."""
        names = with_masks(self.exposed.model)
        model = self.opened(masks=dict.fromkeys(names, 0))
        axes = _axes_of_steps(model, self.signature, names)
        self.signature.masked_steps_allowed = False
        self.signature.masked_steps_by_value = not axes
        return self.opened(masks=axes)

    def decides_otherwise(self, opened: StreamModel, draw: Draw) -> str | None:
        """The first output that differs where the model decides evenly; see `deciders`."""
        if not deciders(self.exposed.model):
            return None
        signature, short = self.signature, draw.shortened(_EVEN)
        row = whole_row(signature, short, np.random.default_rng(1), masked_steps=False)

        def values(names: list[str]) -> Mapping[str, np.ndarray]:
            return inner_values(opened, self.exposed.model, row, names, self.open_bytes)

        moved = even(self.exposed.model, values)
        if moved is None:
            return None
        model = self.opened(moved)
        names = list(signature.outputs)

        def decided(feed: dict[str, Any]) -> dict[str, Any]:
            return dict(zip(names, model.session.run(names, feed), strict=True))

        whole = _whole(signature, decided)
        masked = signature.masked_steps_allowed
        return mismatch(model, whole, short, masked_steps=masked, mask_of=self.mask_of(opened))

    def mask_of(self, opened: StreamModel) -> MaskOf | None:
        """Which steps of a row the model masks, where such steps are refused and its mask is known."""
        refused = not self.signature.masked_steps_allowed and not self.signature.masked_steps_by_value
        return opened.masked_in if refused else None


def _axes_of_steps(model: StreamModel, signature: StreamSignature, names: Sequence[str]) -> dict[str, int]:
    """Where each mask has its axis of steps; none where one is no mask of whole steps."""
    row = whole_row(signature, Draw(_STEPS, {}), np.random.default_rng(0), masked_steps=True)
    found = {}
    for name, mask in zip(names, model.session.run(list(names), model.feed([FRESH], [row])), strict=True):
        shape = np.asarray(mask).shape
        if sorted(shape) != [1] * (len(shape) - 1) + [_STEPS]:
            return {}
        found[name] = shape.index(_STEPS)
    return found


def _states(signature: StreamSignature) -> str:
    """What else may be at fault: states that are not what goes back in."""
    pairs = ", ".join(f"{name!r} from {output!r}" for name, output in signature.states.items())
    return f"its states ({pairs}) may not be what a chunk goes on from" if pairs else ""


def _onsets(model: onnx.ModelProto, signature: StreamSignature, tables: Mapping[str, int]) -> list[int]:
    """Numbers of steps at which constants set in.

    Raises:
        CannotStreamError: one does so beyond what a proof can reach.
    """
    per_row = [
        name
        for name, slot in signature.inputs.items()
        if slot.sequence is None and slot.info.dtype.startswith(("int", "uint")) and name not in tables
    ]
    lengths = [signature.lengths.name] if signature.lengths else []
    found = onsets(model, [*lengths, *per_row])
    furthest = max(found, default=0)
    if furthest > _LATEST:
        raise CannotStreamError(
            f"the model cannot stream: its {found[furthest]} sets in at {furthest} steps, and a proof reaches twice "
            f"{_LATEST}; use run or predict on whole sequences"
        )
    return list(found)


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
