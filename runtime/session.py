"""Opens an artifact and answers requests: checked arrays in, arrays out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from seqport.runtime.artifact import METADATA_KEY, Description, no_metadata, read_metadata
from seqport.runtime.asynchronous import AsyncCalls
from seqport.runtime.binding import Binding, Outputs, run_into
from seqport.runtime.errors import ArtifactError, InputError, refused_value
from seqport.runtime.external import require_data_files
from seqport.runtime.gpu_answers import GpuAnswers
from seqport.runtime.host import Host
from seqport.runtime.listed import Listed
from seqport.runtime.loaded import Loaded
from seqport.runtime.not_a_number import AS_ONNXRUNTIME, NanRule
from seqport.runtime.opening import CPU_PROVIDER, open_session
from seqport.runtime.plain import plain_rules, plain_signature
from seqport.runtime.providers import Opened, open_model
from seqport.runtime.threads import Threads
from seqport.runtime.validate import Checker, InputRule

if TYPE_CHECKING:
    import onnxruntime

    from seqport.runtime.stream_model import StreamModel
    from seqport.runtime.streams import Stream, Streams


class Session(AsyncCalls):
    """An ONNX artifact, ready to run. Safe to call from many threads.

    Args:
        path: an ONNX file. One that seqport did not export runs too, through `run` alone.
        provider: "cpu"; "cuda" or "cuda:1", where every recurrent node must run on the GPU; "auto", CUDA
            where it can run every recurrent node, else whichever is measured to be faster, the CPU or CUDA with
            rewritten nodes; or a list in order of preference, where "cpu" after "cuda" also allows the CPU for nodes
            that CUDA has no kernel for.
        packing: on the CPU, whether recurrent layers leave the padding out: "auto" where that is measured to be faster,
            made ready when the first such batch comes; "on" for every batch, made ready at once; "off" never.
        kernels: on the CPU, what computes recurrent layers: "auto", seqport's own operators, which never compute a
            padded step, where they were proven here (and packing is not "off"); "seqport", these or an error;
            "onnxruntime", its own nodes, for which alone `packing` matters.
        threads: threads within one operator on the CPU; None is one a core. 1 starts no thread: the caller's own
            computes alone. All sessions of the process share one pool after `share_threads`.
        spin: idle threads wait for work in a loop for some milliseconds after each run, not for 0.1 ms. For machines
            that do nothing else.
        memory: what becomes of a run's memory: "keep", for this session's next run; "share", for that of any session
            that shares; "release", back to the system, which costs time at large activations. On a GPU, large
            answers lie in page-locked memory, of which a process keeps 256 MB at most; not so with "release".
        nan: what becomes of NaN, which ONNX Runtime's GRU and LSTM turn into numbers: "propagate", it stays NaN, as in
            the model that was exported, or opening is an error; "error", NaN in an input is one, outside the padding;
            "as-onnxruntime", seqport's operators do as ONNX Runtime's nodes do. None is "propagate" where nothing in
            the model hides NaN (on seqport's operators), else "error"; for a plain ONNX file "as-onnxruntime".
        cuda_rewrite: whether recurrent nodes that CUDA has no kernel for are rewritten to a form that stays on the GPU.
            None does so where CUDA was asked for by name, and for "auto" where that is measured to be faster than the
            CPU, on made-up rows.

    Attributes:
        path: the file.
        provider: what runs it: "cpu" or "cuda:<index>".
        provider_note: why an earlier choice was passed over, which nodes were rewritten for CUDA, and what "auto"
            measured; empty where the first one was taken as it is.
        placement: each recurrent node's name to the provider that runs it.
        signature: its inputs and outputs; for a plain ONNX file as ONNX Runtime gives them.

    Raises:
        NotOnnxError: there is no such file, or it is no ONNX model.
        ArtifactError: ONNX Runtime cannot open it, its weights beside it are not all there, or its metadata does not
            fit its graph.
        ProviderError: none of the wanted providers can run it, with cause and remedy.
        PackingError: packing="on", and nothing in the model can be packed.
        KernelsError: kernels="seqport", and its operators cannot run the model; or nan="propagate", and something in
            it hides NaN.
    """

    def __init__(
        self,
        path: str | Path,
        provider: str | Sequence[str] = "auto",
        *,
        threads: int | None = None,
        packing: str = "auto",
        kernels: str = "auto",
        spin: bool = False,
        memory: str = "keep",
        nan: str | None = None,
        cuda_rewrite: bool | None = None,
    ) -> None:
        self.path = Path(path)
        metadata = read_metadata(self.path)
        require_data_files(self.path)
        self._description = Description.from_json(metadata[METADATA_KEY]) if METADATA_KEY in metadata else None
        host = Host(Threads(threads, spin), memory)
        self._most_threads = host.most_threads
        opened = open_model(self.path, provider, host=host, cuda_rewrite=cuda_rewrite)
        self._nan = NanRule(nan, self._description)

        def loaded(opened: Opened) -> Loaded:
            hides_nan = self._nan.mode == AS_ONNXRUNTIME
            return Loaded(self.path, opened, host, self._description, packing, kernels, hides_nan=hides_nan)

        self._model = loaded(opened)
        if self._description is None:
            self.signature = plain_signature(opened.session)
            self._check = Checker(plain_rules(opened.session), refuse_empty=False)
        else:
            self.signature = self._description
            _require_same_names(self.path, self._description, opened.session)
            rules = [InputRule.of(info) for info in self._description.inputs]
            self._check = Checker(
                rules,
                self._description.sequences,
                limits=self._description.limits,
                zeros_and_ones=self._description.zeros_and_ones,
                tables=self._description.tables,
                not_negative=self._description.not_negative,
            )
        self._check.nan = self._nan
        self._output_names = [output.name for output in opened.session.get_outputs()]
        # In a plain file, axes of one name may be of different sizes: nobody has measured them.
        self._outputs = Outputs(self.signature.outputs, self._description.inputs if self._description else ())
        self._device: int | None = None
        self._gpu: GpuAnswers | None = None  # what takes large answers of a GPU
        measured = ""
        asked = provider != "auto" or cuda_rewrite is not None or packing == "on" or kernels == "seqport"
        if opened.provider == "cpu" and not asked:
            from seqport.runtime.auto import on_gpu_if_faster

            faster, measured = on_gpu_if_faster(self.path, host, self.run, self.signature)
            if faster:
                opened = faster
                self._model = loaded(opened)
        self._nan.decide(self._model.hidden_by, self._model.read_hidden_by)
        self.provider = opened.provider
        self.provider_note = "; ".join(filter(None, (opened.note, measured)))
        self.placement = dict(opened.placement)
        if self.provider != "cpu":
            self._device = int(self.provider.partition(":")[2])
            if self._description is not None and memory != "release":
                self._gpu = GpuAnswers(self._description, self._device)

    @property
    def packing_note(self) -> str:
        """Why no batch runs packed, where one was asked to; empty else."""
        return self._model.packing_note

    @property
    def kernels_note(self) -> str:
        """Why ONNX Runtime's own nodes compute the recurrent layers; empty where seqport's operators do."""
        return self._model.kernels_note

    @property
    def nan(self) -> str:
        """What becomes of NaN: "error", "propagate" or "as-onnxruntime"."""
        return self._nan.mode

    @property
    def description(self) -> Description:
        """What the exporter stamped into the file.

        Raises:
            NoMetadataError: seqport did not export the file.
        """
        if self._description is None:
            raise no_metadata(self.path)
        return self._description

    def run(self, inputs: Mapping[str, Any], *, out: Mapping[str, np.ndarray] | None = None) -> dict[str, np.ndarray]:
        """Run one padded batch.

        Args:
            inputs: every input's name to its array, of exactly the signature's dtype. Plain Python
                numbers and lists are converted where no value changes.
            out: an output's name to an array that it is written into, of the answer's dtype and shape, in C order.

        Returns:
            Every output's name to its array; those of `out` are the caller's own.

        Raises:
            InputError: an input does not fit the signature, and the subclass names the cause; or ONNX Runtime
                refused a value that no signature rules out, such as an id beyond its table (InputValueError).
            OutputBufferError: an array of `out` does not fit its output.
        """
        if type(inputs) is Listed:
            feed, session = self._check.values(inputs, listed=True), inputs.session
        else:
            feed = self._check(inputs)
            session = self._model.session_for(feed)
        if out:
            return run_into(session, feed, self._outputs, out)
        try:
            results = self._gpu.run(session, feed) if self._gpu else session.run(self._output_names, feed)
        except Exception as error:
            raise refused_value(error) from error
        return dict(zip(self._output_names, results, strict=True))  # type: ignore[arg-type]

    def _taking_lists(self) -> onnxruntime.InferenceSession | None:
        return self._model.taking_lists

    def _squashed(self) -> bool | None:
        try:
            from seqport.runtime.rewriting.squashed import squashed_in
        except ImportError:  # for want of onnx
            return None
        return squashed_in(self.path, self.description)

    def bind(self, inputs: Mapping[str, Any], *, out: Mapping[str, np.ndarray] | None = None) -> Binding:
        """Prepare repeated runs of one shape, on buffers that stay in place.

        Args:
            inputs: as for `run`; they give the shapes, and the first values.
            out: an output's name to the array that takes it. The shapes of the others are found by one run.

        Raises:
            InputError: as for `run`.
            OutputBufferError: an array of `out` does not fit its output.
        """
        session = self._model.session_for(self._check(inputs))
        return Binding(session, self._check, self._outputs, inputs, out or {}, self._device)

    def check_ready(self, inputs: Mapping[str, Any] | None = None) -> float:
        """Run one real inference, and compare it with the file's own on the CPU. For a deployment, before traffic.

        Args:
            inputs: what to run on; made up from the signature where it is left out.

        Returns:
            The largest difference of any output: relative to each value where that is above 1.

        Raises:
            ProviderError: the inference fails, or differs by more than 1e-4, with the cause.
            InputError: the model takes neither made-up inputs, nor these.
        """
        from seqport.runtime.readiness import check_ready

        def reference(feed: Mapping[str, Any]) -> dict[str, np.ndarray]:
            file = open_session(self.path, Host(), CPU_PROVIDER)
            try:
                values = file.run(self._output_names, self._check(feed))
            except InputError:
                raise
            except Exception as error:
                raise refused_value(error) from error
            return dict(zip(self._output_names, map(np.asarray, values), strict=True))

        return check_ready(self.run, reference, self.signature, inputs)

    def stream(self) -> Stream:
        """Open a sequence that comes chunk by chunk.

        The first call rewrites the model so that its states go in and out, and proves on random input that chunks give
        what one run gives, to 1e-6; the session runs the rewritten model from then on, also for `run` and `predict`.

        Raises:
            CannotStreamError: the model needs the whole sequence at once: which layer, and why.
            NoMetadataError: nothing in the file says what a sequence is.
        """
        from seqport.runtime.streams import Stream

        return Stream(self._stream_model())

    def streams(self) -> Streams:
        """Open any number of sequences by id, whose chunks share their runs; see `stream`.

        Raises:
            CannotStreamError: the model needs the whole sequence at once: which layer, and why.
            NoMetadataError: nothing in the file says what a sequence is.
        """
        from seqport.runtime.streams import Streams

        return Streams(self._stream_model())

    def _stream_model(self) -> StreamModel:
        model = self._model.stream_model(self.description, self.run)
        model.signature.nan = self._nan
        self._nan.decide(self._model.hidden_by, self._model.read_hidden_by)
        return model

    def __repr__(self) -> str:
        inputs = ", ".join(f"{i.name}: {i.dtype}{list(i.axes)}" for i in self.signature.inputs)
        return f"Session({str(self.path)!r}, provider={self.provider!r}, inputs=({inputs}))"


def _require_same_names(path: Path, description: Description, session: onnxruntime.InferenceSession) -> None:
    """A tool that edits the graph may leave the metadata behind, and lengths would go astray."""
    for what, said, found in (
        ("inputs", description.inputs, session.get_inputs()),
        ("outputs", description.outputs, session.get_outputs()),
    ):
        if [info.name for info in said] != [arg.name for arg in found]:
            raise ArtifactError(
                f"{path}: the metadata names the {what} {[info.name for info in said]}, and the graph has "
                f"{[arg.name for arg in found]}: it was edited after the export, export it again"
            )
