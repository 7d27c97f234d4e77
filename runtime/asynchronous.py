"""The calls of a session from asyncio, each in a thread of its own: the loop goes on meanwhile.

ONNX Runtime releases Python's lock while it computes. What is not computing (checks, packing) takes
turns with the loop every few milliseconds, as threads do.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Unpack, overload

import numpy as np

from seqport.runtime.calls import Calls
from seqport.runtime.errors import InputError
from seqport.runtime.options import BATCH_SIZE, GENERATED_AT_ONCE, READ_AHEAD, Answer, Bounds, Options, Progress, Run

if TYPE_CHECKING:
    from seqport.runtime.generate import Encoder
    from seqport.runtime.generation import Until
    from seqport.runtime.sampling import Seed

T = TypeVar("T")


class AsyncCalls(Calls):
    """`run`, `predict`, `predict_iter` and `generate` to be awaited.

    They take a thread of the loop's default executor. When one is cancelled, the await ends at once; a run that
    has begun cannot be stopped, so its thread ends after that run, at the latest, and starts no other.
    """

    async def run_async(self, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """See `Session.run`. The arrays must not change until it returns."""
        return await _in_thread(self.run, lambda run: run(inputs))

    @overload
    async def predict_async(
        self, items: Iterable[Any], *, on_error: Literal["raise"] = "raise", **bounds: Unpack[Bounds]
    ) -> list[Answer]: ...
    @overload
    async def predict_async(
        self, items: Iterable[Any], *, on_error: Literal["return"], **bounds: Unpack[Bounds]
    ) -> list[Answer | InputError]: ...
    async def predict_async(
        self,
        items: Iterable[Any],
        *,
        batch_size: int = BATCH_SIZE,
        memory_limit: int | None = None,
        progress: Progress | None = None,
        on_error: Literal["raise", "return"] = "raise",
    ) -> Any:
        """See `Session.predict`. `items` are read in the other thread; `progress` is called in the loop's."""
        told = _in_loop(progress) if progress else None
        options = Options(batch_size, memory_limit, told, on_error, in_order=False)
        return await _in_thread(self.run, lambda run: self._batches().predict(run, items, options))

    @overload
    def predict_iter_async(
        self,
        items: Iterable[Any],
        *,
        on_error: Literal["raise"] = "raise",
        read_ahead: int = READ_AHEAD,
        **bounds: Unpack[Bounds],
    ) -> AsyncIterator[Answer]: ...
    @overload
    def predict_iter_async(
        self,
        items: Iterable[Any],
        *,
        on_error: Literal["return"],
        read_ahead: int = READ_AHEAD,
        **bounds: Unpack[Bounds],
    ) -> AsyncIterator[Answer | InputError]: ...
    def predict_iter_async(
        self,
        items: Iterable[Any],
        *,
        batch_size: int = BATCH_SIZE,
        memory_limit: int | None = None,
        progress: Progress | None = None,
        on_error: Literal["raise", "return"] = "raise",
        read_ahead: int = READ_AHEAD,
    ) -> Any:
        """See `Session.predict_iter`, for `async for`. `items` and `progress` are used as by `predict_async`."""
        told = _in_loop(progress) if progress else None
        options = Options(batch_size, memory_limit, told, on_error, read_ahead)
        return _in_threads(self.run, lambda run: self._batches().parts(run, items, options))

    async def generate_async(
        self,
        first: Any,
        *,
        max_steps: int,
        states: Mapping[str, Any] | None = None,
        encoder: Encoder | None = None,
        inputs: Mapping[str, Any] | Iterable[Any] | None = None,
        stop: int | Iterable[int] | None = None,
        until: Until | None = None,
        temperature: float = 0.0,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: Seed = None,
        batch_size: int = GENERATED_AT_ONCE,
    ) -> list[np.ndarray]:
        """See `Session.generate`. `until` is called in the other thread."""
        from seqport.runtime.generation import Ending
        from seqport.runtime.sampling import Sampling

        ending, sampling = Ending(max_steps, stop, until), Sampling(temperature, top_k, top_p, seed)
        return await _in_thread(
            self.run,
            lambda run: self._generate(run, first, ending, sampling, states, encoder, inputs, batch_size),
        )


class _CancelledError(Exception):
    """Ends a thread whose answer nobody waits for any more."""


class _Waiting:
    """A `run` that refuses to begin once nobody waits for it."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self.left = False  # written by the loop, read by the thread

    def run(self, inputs: Mapping[str, Any]) -> Answer:
        """See `Session.run`."""
        if self.left:
            raise _CancelledError
        outputs = self._run(inputs)
        if self.left:  # so that no progress is told of it either
            raise _CancelledError
        return outputs


async def _in_thread(run: Run, call: Callable[[Run], T]) -> T:
    """Await `call` in another thread."""
    import asyncio  # here, because it costs as much as the rest of the runtime, and few need it

    waiting = _Waiting(run)
    try:
        return await asyncio.to_thread(call, waiting.run)
    finally:
        waiting.left = True


async def _in_threads(run: Run, call: Callable[[Run], Iterator[list[T]]]) -> AsyncIterator[T]:
    """The items of an iterator of lists, each list awaited in another thread."""
    import asyncio

    waiting = _Waiting(run)
    try:
        parts = call(waiting.run)
        while (part := await asyncio.to_thread(next, parts, None)) is not None:
            for item in part:
                yield item
    finally:
        waiting.left = True


def _in_loop(progress: Progress) -> Progress:
    """The same callback, called in the thread of the loop that runs now."""
    import asyncio

    loop = asyncio.get_running_loop()
    return lambda done, total: loop.call_soon_threadsafe(progress, done, total)
