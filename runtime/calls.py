"""What a session answers beyond one padded batch: ragged items, and sequences that the model writes itself."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal, Unpack, overload

import numpy as np

from seqport.runtime.artifact import Description
from seqport.runtime.errors import InputError
from seqport.runtime.options import BATCH_SIZE, GENERATED_AT_ONCE, READ_AHEAD, Answer, Bounds, Options, Progress

if TYPE_CHECKING:
    import onnxruntime

    from seqport.runtime.generate import Encoder
    from seqport.runtime.generation import Ending, Generation, Step, Until
    from seqport.runtime.ragged import RaggedBatches
    from seqport.runtime.sampling import Sampling, Seed

_making = threading.Lock()


class Calls(ABC):
    """The calls that need `run` and the description alone. `Session` has them. Safe to use from many threads."""

    _ragged: RaggedBatches | None = None
    _generation: Generation | None = None
    _most_threads = 1  # that may work for a call

    @property
    @abstractmethod
    def description(self) -> Description:
        """What the exporter stamped into the file."""

    @abstractmethod
    def run(self, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Run one padded batch."""

    def _taking_lists(self) -> onnxruntime.InferenceSession | None:
        """ONNX Runtime's session, where its recurrent layers take lists (see `listed`)."""
        return None

    def _squashed(self) -> bool | None:
        """Whether the answers that are drawn from come out of a Softmax or the like; None where nobody can tell."""
        return None

    @overload
    def predict(
        self, items: Iterable[Any], *, on_error: Literal["raise"] = "raise", **bounds: Unpack[Bounds]
    ) -> list[Answer]: ...
    @overload
    def predict(
        self, items: Iterable[Any], *, on_error: Literal["return"], **bounds: Unpack[Bounds]
    ) -> list[Answer | InputError]: ...
    def predict(
        self,
        items: Iterable[Any],
        *,
        batch_size: int = BATCH_SIZE,
        memory_limit: int | None = None,
        progress: Progress | None = None,
        on_error: Literal["raise", "return"] = "raise",
    ) -> Any:
        """Run sequences of any lengths.

        Where the model takes lists (see docs/kernels.md), a run gets the steps of many rows, and nothing is padded.
        Else rows are grouped into batches by measured cost, padded, and trimmed again.

        Args:
            items: one a row of the batch, as a list or anything that gives them one by one. A dict of input
                names to arrays without the batch axis (a sequence is [steps, ...]), or the bare array where the
                model has one sequence input. The lengths are taken from the arrays. An initial state may be left
                out: it is zero.
            batch_size: at most so many rows in one run.
            memory_limit: bytes that a padded batch may take, inputs and outputs together, as the signature
                tells them; an item that is larger alone is an error. None: batches stay below 256 MB, and
                a larger item runs alone.
            progress: called as `progress(done, total)` after each batch; total is None where `items` has no len.
            on_error: "raise" stops at an item that does not fit; "return" puts its error in the place of its
                answer and answers all others.

        Returns:
            One dict of outputs an item, in the items' order, without the batch axis, each sequence
            output trimmed to its item's length. A dict even where there is one output, as from `run`.

        Raises:
            NoMetadataError: nothing in the file says what a sequence is.
            InputError: an item does not fit, or the model refused it; the message begins with its index. No
                answers are returned then; `predict_iter` gives those before it.
        """
        options = Options(batch_size, memory_limit, progress, on_error, in_order=False)
        return self._batches().predict(self.run, items, options)

    @overload
    def predict_iter(
        self,
        items: Iterable[Any],
        *,
        on_error: Literal["raise"] = "raise",
        read_ahead: int = ...,
        **bounds: Unpack[Bounds],
    ) -> Iterator[Answer]: ...
    @overload
    def predict_iter(
        self,
        items: Iterable[Any],
        *,
        on_error: Literal["return"],
        read_ahead: int = READ_AHEAD,
        **bounds: Unpack[Bounds],
    ) -> Iterator[Answer | InputError]: ...
    def predict_iter(
        self,
        items: Iterable[Any],
        *,
        batch_size: int = BATCH_SIZE,
        memory_limit: int | None = None,
        progress: Progress | None = None,
        on_error: Literal["raise", "return"] = "raise",
        read_ahead: int = READ_AHEAD,
    ) -> Any:
        """Like `predict`, for items without end: a part of them is read, grouped and answered, then the next one.

        Args:
            items: as in `predict`.
            batch_size: as in `predict`.
            memory_limit: as in `predict`; reading ahead also stops where items and answers reach four times that.
            progress: as in `predict`.
            on_error: as in `predict`. With "raise", all answers before the wrong item are given first. If the item
                does not fit the signature, `items` then stands just behind it, so that another call goes on
                there; if the model refused a value, up to `read_ahead` items behind it are read already.
            read_ahead: at most so many items; more of them make better batches and a later first answer.

        Yields:
            The answers, in the items' order.

        Raises:
            NoMetadataError: nothing in the file says what a sequence is.
            InputError: an item does not fit, or the model refused it; the message begins with its index.
        """
        options = Options(batch_size, memory_limit, progress, on_error, read_ahead)
        return self._batches().stream(self.run, items, options)

    def generate(
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
        """Feed the network its own answers: the likeliest, or drawn from what it says.

        Args:
            first: what starts each row: tokens [batch], one token for every row, or features [batch, input_dim].
            max_steps: no row gets longer.
            states: initial states by input name (h_0), zero where absent; or another network's answers
                by output name (h_T), as from `encoder.run(...)`, whose other outputs are ignored.
            encoder: in place of `states`: the session whose final states are the initial ones here.
            inputs: of the encoder: a dict is one padded batch, as for `run`; a list one item a row, as for `predict`.
            stop: the token or tokens that end a row, and are not part of it.
            until: called as `until(row, values)` after each step of each row, with all that the row has
                generated; True ends it, and its last value stays.
            temperature: 0 takes the likeliest token, 1 draws as the model says, more draws more evenly.
            top_k: only the k likeliest tokens may be drawn.
            top_p: only the likeliest tokens that together reach this probability may be drawn, after `top_k`.
            seed: the same seed, the same tokens, whatever else is in the batch. An int gives row i its stream i;
                a list gives each row its own, as an int or as (seed, i), which draws row i of a batch again.
            batch_size: at most so many rows in one step. A row that has ended leaves, and the next one takes its place.

        Returns:
            One array a row, without `first`: tokens [steps], or features [steps, out_dim].

        Raises:
            NoMetadataError: nothing in the file says what goes back in.
            ArtifactError: the network carries no state or gives several answers; the encoder's states are not its own.
            InputError: an argument does not fit the network, or another argument.
        """
        from seqport.runtime.generation import Ending
        from seqport.runtime.sampling import Sampling

        ending, sampling = Ending(max_steps, stop, until), Sampling(temperature, top_k, top_p, seed)
        return self._generate(self.run, first, ending, sampling, states, encoder, inputs, batch_size)

    def _generate(
        self,
        run: Step,
        first: Any,
        ending: Ending,
        sampling: Sampling,
        states: Mapping[str, Any] | None,
        encoder: Encoder | None,
        inputs: Mapping[str, Any] | Iterable[Any] | None,
        batch_size: int,
    ) -> list[np.ndarray]:
        from seqport.runtime.generate import encoded_by
        from seqport.runtime.generation import Generation

        if states is not None and encoder is not None:
            raise InputError(
                "states and encoder both came, and the encoder's final states are the initial ones: give one"
            )
        if self._generation is None:
            self._generation = Generation(self.description, self._squashed)
        states = encoded_by(encoder, inputs, self.description) or states
        return self._generation.rows(run, first, states, ending=ending, sampling=sampling, batch_size=batch_size)

    def _batches(self) -> RaggedBatches:
        from seqport.runtime.ragged import RaggedBatches

        with _making:  # what one thread's runs have taught is for all
            if self._ragged is None:
                self._ragged = RaggedBatches(
                    self.description, taking_lists=self._taking_lists, threads=self._most_threads
                )
            return self._ragged
