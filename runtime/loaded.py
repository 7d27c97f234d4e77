"""The forms of one model that a session has open: as the file has it, without padding, laid open for streams."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from seqport.runtime.artifact import Description
from seqport.runtime.errors import CannotStreamError, KernelsError, PackingError
from seqport.runtime.host import Host
from seqport.runtime.providers import Opened, open_model

if TYPE_CHECKING:
    import onnxruntime

    from seqport.runtime.packing_choice import Choice
    from seqport.runtime.stream_model import StreamModel

Run = Callable[[Mapping[str, Any]], dict[str, np.ndarray]]
_PACKING = ("auto", "on", "off")
_KERNELS = ("auto", "seqport", "onnxruntime")


class Loaded:
    """One model in as many forms as its use has asked for. Safe to call from many threads.

    Args:
        path: the file.
        opened: it, as it is.
        host: the threads and memory of every form.
        description: where the file has one.
        packing: "auto", "on" or "off"; see `Session`.
        kernels: "auto", "seqport" or "onnxruntime"; see `Session`.
        hides_nan: whether seqport's operators turn NaN into a number where ONNX Runtime's nodes do.

    Attributes:
        session: the form that runs whatever is not packed.
        kernels_note: why ONNX Runtime's own nodes compute the recurrent layers; empty where seqport's operators do.
        hidden_by: the first node that turns NaN into a number, "" for none; None where nobody has looked yet.

    Raises:
        PackingError: another `packing`; or "on", where nothing can be packed.
        KernelsError: another `kernels`; or "seqport", where its operators cannot run the model.
    """

    def __init__(
        self,
        path: Path,
        opened: Opened,
        host: Host,
        description: Description | None,
        packing: str,
        kernels: str,
        *,
        hides_nan: bool = False,
    ) -> None:
        self.session = opened.session
        self._provider, self._placement = opened.provider, opened.placement  # not the session, which may be replaced
        self._path, self._host, self._description = path, host, description
        self._kernels, self._hides_nan = kernels, hides_nan
        self.hidden_by: str | None = None
        self._skips_padding = False
        self._listing = weakref.WeakSet[Any]()  # the forms that take lists
        self.kernels_note = self._use_own_operators(packing, kernels)
        self._choice = self._packing_choice(packing)
        self._streaming: StreamModel | str | None = None  # or why there are no streams
        self._note_of_streams = ""
        self._opening = threading.Lock()

    @property
    def packing_note(self) -> str:
        """Why no batch runs packed, where one was asked to; empty else."""
        return self._choice.note if self._choice else ""

    @property
    def taking_lists(self) -> onnxruntime.InferenceSession | None:
        """What is to run a batch as a list (see `listed`); None where nothing takes one."""
        session = self.session
        return session if session in self._listing else None

    def session_for(self, feed: Mapping[str, Any]) -> onnxruntime.InferenceSession:
        """What is to run a checked batch."""
        return self.session if self._choice is None else self._choice.session_for(feed)

    def read_hidden_by(self) -> str:
        """The first node that turns NaN into a number; "" where none is found, for want of `onnx` perhaps."""
        if self.hidden_by is None:
            try:
                from seqport.runtime.rewriting.not_a_number import hidden_in

                self.hidden_by = hidden_in(self._path)
            except ImportError:
                recurrent = self._description.recurrent if self._description else ()
                self.hidden_by = next((f"{info.op} {info.node!r}" for info in recurrent), "")
        return self.hidden_by

    def _use_own_operators(self, packing: str, kernels: str) -> str:
        """Open the model with seqport's operators, in the file's place; or say why not."""
        if packing not in _PACKING:
            raise PackingError(f'packing is {packing!r}, expected "auto", "on" or "off"')
        if kernels not in _KERNELS:
            raise KernelsError(f'kernels is {kernels!r}, expected "auto", "seqport" or "onnxruntime"')
        if kernels == "onnxruntime" or (kernels == "auto" and packing == "off"):
            return "ONNX Runtime's were asked for" if kernels == "onnxruntime" else 'packing="off": the file as it is'
        note = self._own_form()
        if note and kernels == "seqport":
            raise KernelsError(
                f"{self._path} cannot run on seqport's operators: {note}; kernels=\"auto\" runs it on ONNX Runtime's"
            )
        return note

    def _own_form(self) -> str:
        if self._provider != "cpu":
            return f"the model runs on {self._provider}"
        if not self._placement:
            return "the model has no recurrent layer"
        try:
            from seqport.runtime.rewriting import own_form
        except ImportError as error:
            return f"rewriting a model needs the package onnx ({error}): pip install onnx"
        try:
            made = own_form.open_own_form(self._path, self._host, self._sequences(), hides_nan=self._hides_nan)
        except Exception as error:  # whatever it is, the file itself runs
            return f"{type(error).__name__}: {error}"
        if isinstance(made, str):
            return made
        self.session, self._skips_padding, self.hidden_by = made.session, made.takes_lengths, made.hidden_by
        if made.takes_lists:
            self._listing.add(made.session)
        return ""

    def _sequences(self) -> set[str]:
        described = self._description.sequences if self._description else ()
        return {name for sequence in described for name in sequence.inputs}

    def _packing_choice(self, packing: str) -> Choice | None:
        provider = self._provider
        nothing_to_pack = not self.kernels_note or provider != "cpu" or not self._placement
        if packing == "off" or self._skips_padding or (packing == "auto" and nothing_to_pack):
            return None
        if provider != "cpu":
            raise PackingError(
                f'packing="on" is for the CPU, and {self._path} runs on {provider}: CUDA leaves padding out itself'
            )

        from seqport.runtime import packed_form
        from seqport.runtime.packing_choice import Choice

        host = self._host

        def replaced(session: onnxruntime.InferenceSession) -> None:
            self.session = session

        choice = Choice(
            self.session,
            lambda: packed_form.packed_form(self._path, self._open, host),
            self._description,
            always=packing == "on",
            replaced=replaced,
        )
        if packing == "on" and choice.note:
            raise PackingError(f'{self._path} cannot be packed: {choice.note}; packing="auto" runs it as it is')
        return choice

    def _open(self, model: bytes) -> onnxruntime.InferenceSession:
        """A model rewritten from the file, where the file runs."""
        mixed = self._provider != "cpu" and "cpu" in self._placement.values()
        wanted = [self._provider, "cpu"] if mixed else self._provider
        return open_model(self._path, wanted, host=self._host, model=model).session

    def _open_for_streams(self, model: bytes) -> onnxruntime.InferenceSession:
        """The same, with seqport's operators where the file runs on them."""
        if self.kernels_note:
            return self._open(model)
        from seqport.runtime.rewriting import own_form

        try:
            sequences, hides = self._sequences(), self._hides_nan
            made = own_form.open_own_form(self._path, self._host, sequences, model, hides_nan=hides)
        except Exception as error:
            made = f"{type(error).__name__}: {error}"
        if isinstance(made, str):
            if self._kernels == "seqport":
                raise KernelsError(f"{self._path} cannot run as streams on seqport's operators: {made}")
            self._note_of_streams = f"streams cannot run on seqport's operators: {made}"
            return self._open(model)
        if made.takes_lists:
            self._listing.add(made.session)
        return made.session

    def stream_model(self, description: Description, run: Run) -> StreamModel:
        """The model opened for streams, once; it takes the file's place. A refusal is remembered too.

        Args:
            description: of the model.
            run: what runs whole sequences, for the proof.

        Raises:
            CannotStreamError: the model needs the whole sequence at once: which layer, and why.
        """
        with self._opening:
            if self._streaming is None:
                open_for_streams = _rewriting_for_streams().open_for_streams
                try:
                    opened: StreamModel = open_for_streams(self._path, description, run, self._open_for_streams)
                except CannotStreamError as error:
                    self._streaming = str(error)  # the error itself would keep the rewritten model in memory
                    raise
                self._streaming = opened
                if self._note_of_streams:
                    self.kernels_note, self._skips_padding, self.hidden_by = self._note_of_streams, False, None
                    self._choice = self._packing_choice("auto")
                if self._choice:  # before the session is replaced, which a packed form might do at the same time
                    self._choice.stand_in(opened.session)
                self.session = opened.session
            if isinstance(self._streaming, str):
                raise CannotStreamError(self._streaming)
            return self._streaming


def _rewriting_for_streams() -> ModuleType:
    """What rewrites a model for streams, which needs `onnx`."""
    try:
        from seqport.runtime.rewriting import streaming
    except ModuleNotFoundError as error:
        raise CannotStreamError(
            f"streams need the package {error.name!r}, which is not installed: pip install 'seqport[cpu]' brings it"
        ) from error
    return streaming
