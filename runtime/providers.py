"""Chooses where a model runs, opens it there, and makes sure that it does run there."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from seqport.runtime import cuda
from seqport.runtime.errors import ArtifactError, NotOnnxError, ProviderError

if TYPE_CHECKING:
    import onnxruntime

CPU_PROVIDER = "CPUExecutionProvider"
_RECURRENT = {"RNN", "GRU", "LSTM", "DynamicQuantizeLSTM"}
_WEIGHTS_FOLDER = "session.model_external_initializers_file_folder_path"
_SILENT = 4  # ONNX Runtime's log level: what it would print, Session says or raises


@dataclass(frozen=True)
class Opened:
    """A model opened on one provider.

    Attributes:
        session: ONNX Runtime's own.
        provider: "cpu" or "cuda:<index>".
        note: why an earlier choice was passed over; empty where the first one was taken.
        placement: each recurrent node's name to the provider that runs it.
    """

    session: onnxruntime.InferenceSession
    provider: str
    note: str = ""
    placement: Mapping[str, str] = field(default_factory=dict)


def open_model(
    path: Path, provider: str | Sequence[str] = "auto", *, threads: int | None = None, model: bytes | None = None
) -> Opened:
    """Open an ONNX file on the first of the wanted providers that can run it.

    Args:
        path: an ONNX file.
        provider: "cpu"; "cuda" or "cuda:1", where every recurrent node must run on the GPU; "auto", CUDA
            where it can run every recurrent node, else the CPU; or a list in order of preference, where
            "cpu" after "cuda" also allows the CPU for nodes that CUDA has no kernel for.
        threads: threads within one operator on the CPU; None leaves ONNX Runtime's choice, one a core.
        model: what to open instead of the file, rewritten from it; weights beside the file are found there.

    Raises:
        ProviderError: none of them can run the model; the message has each one's cause and remedy.
        ArtifactError: ONNX Runtime cannot open the file on any provider.
    """
    if importlib.util.find_spec("onnxruntime") is None:
        raise ProviderError("onnxruntime is not installed: pip install 'seqport[cpu]', or 'seqport[gpu]' for CUDA")
    if threads is not None and threads < 1:
        raise ProviderError(f"threads is {threads}, expected at least 1, or None for ONNX Runtime's choice")
    wanted = parse(provider)
    mixed_allowed = provider != "auto" and "cpu" in wanted
    passed_over: list[str] = []
    for name in wanted:
        if name == "cpu":
            session = _open(path, CPU_PROVIDER, threads=threads, model=model)
            return Opened(session, "cpu", "; ".join(passed_over), _placement(session, "cpu"))
        opened = _try_cuda(path, name, threads, mixed_allowed, model)
        if isinstance(opened, Opened):
            return Opened(opened.session, name, "; ".join(passed_over), opened.placement)
        passed_over.append(f"{name} cannot run it: {opened}")
    raise ProviderError("; ".join(passed_over) + f' (asked for provider={provider!r}; "cpu" runs every model)')


def parse(provider: str | Sequence[str]) -> tuple[str, ...]:
    """The wanted providers in order, as "cpu" and "cuda:<index>".

    Raises:
        ProviderError: a name of no provider, or none at all.
    """
    if provider == "auto":
        return ("cuda:0", "cpu")
    names = (provider,) if isinstance(provider, str) else tuple(provider)
    for name in names:
        if not isinstance(name, str) or not re.fullmatch(r"cpu|cuda(:\d+)?", name):
            raise ProviderError(
                f'provider is {provider!r}: expected "auto", "cpu", "cuda", "cuda:<index>", or a list of the last three'
            )
    if not names:
        raise ProviderError('provider is an empty list: expected at least one of "cpu", "cuda", "cuda:<index>"')
    return tuple(dict.fromkeys("cuda:0" if name == "cuda" else name for name in names))


def _try_cuda(path: Path, name: str, threads: int | None, mixed_allowed: bool, model: bytes | None) -> Opened | str:
    """The model opened on a GPU, or the reason why not."""
    device = int(name.split(":")[1])
    problem = cuda.problem(device)
    if problem:
        return problem
    # TF32 keeps 10 bits of a float32's 23: answers would differ from every other runtime's by 1e-3.
    options = {"device_id": str(device), "use_tf32": "0"}
    try:
        session = _open(path, (cuda.CUDA_PROVIDER, options), CPU_PROVIDER, threads=threads, model=model)
    except ArtifactError as error:
        _open(path, CPU_PROVIDER, threads=threads, model=model)  # raises where the file is at fault, not CUDA
        return str(error.__cause__)
    if cuda.CUDA_PROVIDER not in session.get_providers():
        return (
            "ONNX Runtime lists CUDA, but could not load it and fell back to the CPU "
            "(its own message on stderr names the library)"
        )
    placement = _placement(session, name)
    strays = [node for node, place in placement.items() if place != name]
    if strays and not mixed_allowed:
        return (
            f"CUDA has no kernel for the recurrent nodes {', '.join(strays)}, which would run on the CPU "
            "(CUDA runs no ReLU RNN, no GRU with the reset gate before the product, no clip, "
            f'no peepholes, no other activations): ["{name}", "cpu"] allows that'
        )
    return Opened(session, name, placement=placement)


def _open(
    path: Path, *providers: str | tuple[str, dict[str, str]], threads: int | None, model: bytes | None = None
) -> onnxruntime.InferenceSession:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = _SILENT
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    if threads is not None:
        options.intra_op_num_threads = threads
    if model is not None:
        options.add_session_config_entry(_WEIGHTS_FOLDER, str(path.parent))
    try:
        # Without ONNX Runtime's own fallback, which prints to stdout and changes the provider.
        return onnxruntime.InferenceSession(model or path, options, list(providers), enable_fallback=0)
    except Exception as error:  # its error types have no common root
        kind = NotOnnxError if type(error).__name__ == "InvalidProtobuf" else ArtifactError
        raise kind(f"{path} cannot be opened by ONNX Runtime {onnxruntime.__version__}: {error}") from error


def _placement(session: onnxruntime.InferenceSession, cuda_name: str) -> dict[str, str]:
    """Each recurrent node's name to its provider; its index makes up for a name that says too little."""
    short = {CPU_PROVIDER: "cpu", cuda.CUDA_PROVIDER: cuda_name}
    placement: dict[str, str] = {}
    for subgraph in session.get_provider_graph_assignment_info():
        for node in subgraph.get_nodes():
            if node.op_type in _RECURRENT:
                name = str(node.name)
                if not name or name in placement:
                    name = f"{name or node.op_type}_{len(placement)}"
                placement[name] = short.get(str(subgraph.ep_name), str(subgraph.ep_name))
    return placement
