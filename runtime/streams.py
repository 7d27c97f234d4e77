"""Sequences that come chunk by chunk: one, or many that share their runs."""

from __future__ import annotations

import threading
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np

from seqport.runtime.errors import InputError, StreamIdError
from seqport.runtime.stream_model import StreamModel
from seqport.runtime.stream_signature import Chunk
from seqport.runtime.stream_state import FRESH, StreamState, Together


class Stream:
    """One sequence, chunk by chunk, as `Session.stream` opens it. Safe to call from many threads, one after the other.

    Attributes:
        steps: how many steps have passed.
    """

    def __init__(self, model: StreamModel) -> None:
        self._model = model
        self._state = FRESH
        self._lock = threading.Lock()

    @property
    def steps(self) -> int:
        """How many steps have passed."""
        return self._state.steps

    def push(self, chunk: Any) -> dict[str, np.ndarray]:
        """Run the next steps.

        Args:
            chunk: an array [steps, ...], or a dict of every input's name to its array without the batch axis. A dict is
                always of inputs; ids of many streams go to `Streams.push`. Lengths are left out, they are counted.
                A state that the model itself takes may be given, and replaces the one carried; at first it is zero.
                An input that only sets an initial state comes with the first steps, and may be left out later.

        Returns:
            Every output's name to its array without the batch axis: along the steps those of this chunk, and of any
            other output the answer to all steps so far. A chunk of 0 steps changes nothing; it gives outputs of 0
            steps, and the last answer of the others, which are absent before the first step.

        Raises:
            InputError: the chunk does not fit, or the model does not take its values. The state is as it was.
        """
        checked = self._model.signature.chunk(chunk)
        with self._lock:
            ((self._state, answers),) = self._model.advance([(self._state, checked)])
        return answers

    def reset(self) -> None:
        """Begin a new sequence."""
        with self._lock:
            self._state = FRESH

    def save(self) -> bytes:
        """The state as bytes, for `restore` in this process or another (see `seqport.runtime.stream_state`)."""
        return self._model.save(self._state)

    def restore(self, data: bytes) -> None:
        """Go on from a saved state.

        Raises:
            SavedStreamError: the bytes are damaged, or of another artifact or version. The state is as it was.
        """
        state = self._model.load(data)
        with self._lock:
            self._state = state


class Streams:
    """Many sequences by id, chunk by chunk, as `Session.streams` opens them.

    Safe to call from many threads. Pushes to one such object run one after the other, because each needs the states of
    the last; for runs at the same time open several.
    """

    def __init__(self, model: StreamModel) -> None:
        self._model = model
        self._states: dict[Hashable, StreamState] = {}
        # The streams that shared the last run: their states stay in its arrays until others come.
        self._sharing: tuple[Hashable, ...] = ()
        self._together: Together | None = None
        self._lock = threading.Lock()

    @property
    def ids(self) -> tuple[Hashable, ...]:
        """The open streams, in the order in which they began."""
        with self._lock:
            return tuple(self._states)

    def __len__(self) -> int:
        return len(self._states)

    def push(self, chunks: Mapping[Any, Any]) -> dict[Any, dict[str, np.ndarray]]:
        """Run the next steps of some streams together; an id that is new begins one.

        Chunks of different sizes share one run where the model takes lengths, or masks what is padded; else those of
        one size do.

        Args:
            chunks: each stream's id to its chunk, as `Stream.push` takes it.

        Returns:
            Each id to what `Stream.push` gives.

        Raises:
            InputError: a chunk does not fit; the message begins with its id. All states are as they were.
        """
        if not isinstance(chunks, Mapping):
            raise InputError(
                f"chunks came as {type(chunks).__name__}, expected a dict of ids to chunks: "
                "the chunk of a single stream goes to session.stream().push"
            )
        checked = [self._checked(name, chunk) for name, chunk in chunks.items()]
        names = tuple(chunks)
        return dict(zip(names, self._push(names, checked), strict=True))

    def _push(self, names: tuple[Hashable, ...], checked: list[Chunk]) -> list[dict[str, np.ndarray]]:
        with self._lock:
            if len(names) > 1 and self._model.share_a_run(checked):
                return self._push_together(names, checked)
            self._settle()
            before = [self._states.get(name, FRESH) for name in names]
            results = self._model.advance(list(zip(before, checked, strict=True)))
            self._states.update(zip(names, (state for state, _ in results), strict=True))
            return [found for _, found in results]

    def _push_together(self, names: tuple[Hashable, ...], chunks: list[Chunk]) -> list[dict[str, np.ndarray]]:
        if self._together is not None and names == self._sharing:
            self._together, answers = self._model.run(self._together, chunks)
            return answers
        self._settle()
        together, answers = self._model.run([self._states.get(name, FRESH) for name in names], chunks)
        self._states.update(dict.fromkeys(names, FRESH))  # theirs are in `together` now
        self._sharing, self._together = names, together
        return answers

    def _settle(self) -> None:
        """Give each stream of the last run its own state."""
        if self._together is not None:
            self._states.update(zip(self._sharing, self._together.apart(), strict=True))
            self._sharing, self._together = (), None

    def steps(self, name: Hashable) -> int:
        """How many steps of a stream have passed.

        Raises:
            StreamIdError: no stream has that id.
        """
        with self._lock:
            return self._state(name).steps

    def close(self, name: Hashable) -> None:
        """End a stream; the same id may begin another.

        Raises:
            StreamIdError: no stream has that id.
        """
        with self._lock:
            self._state(name)
            del self._states[name]

    def reset(self, name: Hashable) -> None:
        """Begin a new sequence under an id.

        Raises:
            StreamIdError: no stream has that id.
        """
        with self._lock:
            self._state(name)
            self._states[name] = FRESH

    def save(self, name: Hashable) -> bytes:
        """A stream's state as bytes.

        Raises:
            StreamIdError: no stream has that id.
        """
        with self._lock:
            state = self._state(name)
        return self._model.save(state)

    def restore(self, name: Hashable, data: bytes) -> None:
        """Go on from a saved state, under an id that is new or in use.

        Raises:
            SavedStreamError: the bytes are damaged, or of another artifact or version. All states are as they were.
        """
        state = self._model.load(data)
        with self._lock:
            self._settle()
            self._states[name] = state

    def _checked(self, name: Hashable, chunk: Any) -> Chunk:
        label = f"stream {name!r}: "
        try:
            return self._model.signature.chunk(chunk, label)
        except InputError as error:
            raise type(error)(f"{label}{error}") from error

    def _state(self, name: Hashable) -> StreamState:
        self._settle()
        try:
            return self._states[name]
        except KeyError:
            some = ", ".join(map(repr, list(self._states)[:8])) or "none"
            raise StreamIdError(
                f"no stream has the id {name!r}; open are {some}: push a chunk under it first"
            ) from None
