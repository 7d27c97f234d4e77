"""One model opened for streams: takes the states and the next chunks, gives the answers and the next states."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from seqport.runtime.errors import InputNameError, InputValueError, refused_value
from seqport.runtime.stream_signature import Chunk, StreamSignature, row_axis
from seqport.runtime.stream_state import FRESH, FRESH_INPUT, StateTensor, StreamState, Together, from_bytes, to_bytes

if TYPE_CHECKING:
    import onnxruntime

Answers = dict[str, np.ndarray]


@dataclass(frozen=True)
class _Carried:
    """A state, and where it goes in and comes out; an input of a stream's first steps goes on as it came."""

    name: str
    input: str
    output: str | None
    batch: int  # the position of the batch axis
    dtype: str
    axes: tuple[str | int, ...]  # of one row


class StreamModel:
    """Runs chunks of any number of streams; holds no stream itself, so it is safe to call from many threads.

    Args:
        session: ONNX Runtime's, over a graph whose states are open.
        signature: what a chunk is.
        opened: the states that the graph was opened for.
        fresh: the graph also takes `FRESH_INPUT`.
        artifact: the hash that saved streams name.
        masks: outputs that say which steps are masked, where such steps are to be refused: flags [steps, batch], each
            with the position of its axis of steps.

    Attributes:
        starts_from_own_states: a chunk that brings all of the model's own states is a sequence of its own.
    """

    def __init__(
        self,
        session: onnxruntime.InferenceSession,
        signature: StreamSignature,
        opened: Sequence[StateTensor],
        *,
        fresh: bool,
        artifact: str,
        masks: Mapping[str, int] | None = None,
    ) -> None:
        self.session, self.signature, self.artifact = session, signature, artifact
        layers = [_Carried(s.name, s.input, s.output, 1, "float32", (1, s.num_hidden_units)) for s in opened]
        own = [
            _Carried(name, name, output, slot.batch, slot.info.dtype, slot.row_axes)
            for name, output in signature.states.items()
            for slot in (signature.inputs[name],)
        ]
        first = [
            _Carried(name, name, None, slot.batch, slot.info.dtype, slot.row_axes)
            for name, slot in signature.inputs.items()
            if name in signature.first_only
        ]
        self._carried = [*layers, *own, *first]
        self.starts_from_own_states = bool(own) and not layers
        self._masks = masks or {}
        self._zeros = {s.name: np.zeros(s.axes, np.float32) for s in layers}  # type: ignore[arg-type]
        self._batch = {state.name: state.batch for state in self._carried}
        self._fresh = fresh
        finals = [state.output for state in self._carried if state.output is not None]
        self._fetch = list(dict.fromkeys([*signature.outputs, *finals, *self._masks]))
        self._shapes = {state.name: (state.dtype, state.axes) for state in self._carried}
        self._answers = signature.answers()

    @property
    def state_names(self) -> tuple[str, ...]:
        """What a stream carries: "<layer>.h", "<layer>.c", the model's own state inputs, inputs of its first steps."""
        return tuple(state.name for state in self._carried)

    def advance(self, streams: Sequence[tuple[StreamState, Chunk]]) -> list[tuple[StreamState, Answers]]:
        """Run the next chunk of some streams.

        Args:
            streams: each one's state and its checked chunk.

        Returns:
            Each one's next state and its outputs, in the same order. A chunk without steps leaves the state, gives
            outputs of 0 steps, and the last answer of the others.

        Raises:
            InputValueError: ONNX Runtime refused a value; no state has changed.
        """
        if len(streams) == 1 and streams[0][1].steps:
            together, answers = self.run([streams[0][0]], [streams[0][1]])
            return [(together.apart()[0], answers[0])]
        done: list[tuple[StreamState, Answers]] = [
            (state, {**self.signature.nothing(), **_copied(state.answers)}) if not chunk.steps else (state, {})
            for state, chunk in streams
        ]
        for group in self.signature.groups([chunk for _, chunk in streams]):
            together, answers = self.run([streams[index][0] for index in group], [streams[index][1] for index in group])
            for index, state, found in zip(group, together.apart(), answers, strict=True):
                done[index] = (state, found)
        return done

    def share_a_run(self, chunks: Sequence[Chunk]) -> bool:
        """Whether all of the chunks go into one run, and go on from where their streams are."""
        carried = self.signature.states.keys() | self.signature.first_only
        given = carried and any(not carried.isdisjoint(chunk.arrays) for chunk in chunks)
        return not given and [len(group) for group in self.signature.groups(chunks)] == [len(chunks)]

    def run(self, before: Sequence[StreamState] | Together, chunks: Sequence[Chunk]) -> tuple[Together, list[Answers]]:
        """One run over streams that share it.

        Args:
            before: where they are, apart or as they came out of the run before; then no chunk brings a state.
            chunks: the next steps of each, in the same order; none is empty.

        Raises:
            InputValueError: ONNX Runtime refused a value.
        """
        feed = self.feed(before, chunks)
        try:
            fetched = self.session.run(self._fetch, feed)
        except Exception as error:
            raise refused_value(error) from error
        outputs: dict[str, Any] = dict(zip(self._fetch, fetched, strict=True))
        for place, chunk in enumerate(chunks) if self._masks else ():
            self._refuse_masked(outputs, place, chunk)
        answers = [self.signature.cut(outputs, place, chunk.steps) for place, chunk in enumerate(chunks)]
        kept = [{name: found[name].copy() for name in self._answers} for found in answers]
        passed = before.steps if isinstance(before, Together) else [state.steps for state in before]
        steps = [count + chunk.steps for count, chunk in zip(passed, chunks, strict=True)]
        carried = {s.name: feed[s.input] if s.output is None else outputs[s.output] for s in self._carried}
        return Together(carried, self._batch, kept, steps), answers

    def masked(self, outputs: Mapping[str, np.ndarray], place: int, steps: int) -> np.ndarray:
        """Which steps of one row the model masks, in the outputs of a run."""
        masked = np.zeros(steps, bool)
        for name, axis in self._masks.items():
            by_step = np.moveaxis(outputs[name], axis, 0).reshape(outputs[name].shape[axis], -1)
            masked |= ~by_step[:steps, place]
        return masked

    def masked_in(self, row: Chunk) -> np.ndarray:
        """The same of a whole sequence."""
        names = list(self._masks)
        outputs: dict[str, Any] = dict(zip(names, self.session.run(names, self.feed([FRESH], [row])), strict=True))
        return self.masked(outputs, 0, row.steps)

    def _refuse_masked(self, outputs: Mapping[str, np.ndarray], place: int, chunk: Chunk) -> None:
        masked = self.masked(outputs, place, chunk.steps)
        if masked.any():
            raise InputValueError(self.signature.said_of_masked(chunk, int(masked.argmax())))

    def save(self, state: StreamState) -> bytes:
        """See `Stream.save`."""
        return to_bytes(state, self.artifact)

    def load(self, data: bytes) -> StreamState:
        """See `Stream.restore`."""
        return from_bytes(data, self.artifact, self._shapes, self._answers)

    def feed(self, before: Sequence[StreamState] | Together, chunks: Sequence[Chunk]) -> dict[str, Any]:
        """The inputs of one run, the states among them."""
        feed: dict[str, Any] = self.signature.feed(chunks)
        if isinstance(before, Together):
            feed.update((state.input, before.carried[state.name]) for state in self._carried)
            fresh = [False] * len(chunks)
        else:
            for state in self._carried:
                rows = [self._start(state, *stream) for stream in zip(before, chunks, strict=True)]
                feed[state.input] = rows[0][row_axis(state.batch)] if len(rows) == 1 else np.stack(rows, state.batch)
            fresh = [not state.steps for state in before]
        if self._fresh:
            feed[FRESH_INPUT] = np.array(fresh).reshape(1, -1, 1)
        return feed

    def _start(self, state: _Carried, before: StreamState, chunk: Chunk) -> np.ndarray:
        """The state that a row goes on from: one that came with the chunk, the last one, or zero."""
        if state.output is None:
            return _first(state.name, before, chunk)
        if state.name in chunk.arrays:
            return chunk.arrays[state.name]
        if before.steps:
            return before.carried[state.name]
        zero = self._zeros.get(state.name)
        return zero if zero is not None else self.signature.inputs[state.name].zero_row()


def _first(name: str, before: StreamState, chunk: Chunk) -> np.ndarray:
    """The value of an input that sets an initial state, which a stream's first steps bring.

    Raises:
        InputNameError: they do not.
        InputValueError: another value came later, which nobody would read.
    """
    came, known = chunk.arrays.get(name), before.carried.get(name) if before.steps else None
    if known is None:
        if came is None:
            raise InputNameError(f"input {name!r} missing: it sets the initial state, and comes with the first steps")
        return came
    if came is not None and not np.array_equal(came, known, equal_nan=came.dtype.kind == "f"):
        raise InputValueError(
            f"input {name!r} came with other values than with the first steps, and it sets the initial state alone, so "
            "nothing would read them: leave it out, or reset the stream"
        )
    return known


def _copied(answers: Any) -> Answers:
    return {name: array.copy() for name, array in answers.items()}
