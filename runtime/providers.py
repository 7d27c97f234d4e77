"""Chooses where a model runs, opens it there, and makes sure that it does run there."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from seqport.runtime import cuda, trial
from seqport.runtime.errors import ArtifactError, NotOnnxError, ProviderError
from seqport.runtime.gpu_model import STEP, GpuModel, gpu_model
from seqport.runtime.host import Host
from seqport.runtime.opening import CPU_PROVIDER, open_session

if TYPE_CHECKING:
    import onnxruntime

_RECURRENT = {"RNN", "GRU", "LSTM", "DynamicQuantizeLSTM"}


@dataclass(frozen=True)
class Opened:
    """A model opened on one provider.

    Attributes:
        session: ONNX Runtime's own.
        provider: "cpu" or "cuda:<index>".
        note: why an earlier choice was passed over, and which nodes were rewritten for CUDA; empty where the first one
            was taken as it is.
        placement: each recurrent node's name to the provider that runs it.
    """

    session: onnxruntime.InferenceSession
    provider: str
    note: str = ""
    placement: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Source:
    """What is opened: a file, or the bytes of a model that was made from it.

    Attributes:
        path: the file, whose folder has the weights beside it.
        model: bytes that stand in its place; None for the file itself.
    """

    path: Path
    model: bytes | None = None

    def open(self, host: Host, *providers: str | tuple[str, dict[str, str]]) -> onnxruntime.InferenceSession:
        """Open it.

        Raises:
            ProviderError: threads were asked for, and the process has one pool for all.
            ArtifactError: ONNX Runtime cannot open it.
        """
        import onnxruntime

        try:
            if self.model is None:
                return open_session(self.path, host, *providers)
            return open_session(self.model, host, *providers, folder=self.path.parent)
        except ProviderError:
            raise
        except Exception as error:  # ONNX Runtime's error types have no common root
            kind = NotOnnxError if type(error).__name__ == "InvalidProtobuf" else ArtifactError
            raise kind(f"{self.path} cannot be opened by ONNX Runtime {onnxruntime.__version__}: {error}") from error


def open_model(
    path: Path,
    provider: str | Sequence[str] = "auto",
    *,
    host: Host | None = None,
    cuda_rewrite: bool | None = None,
    model: bytes | None = None,
) -> Opened:
    """Open an ONNX file on the first of the wanted providers that can run it.

    Args:
        path: an ONNX file.
        provider: "cpu"; "cuda" or "cuda:1", where every recurrent node must run on the GPU; "auto", CUDA
            where it can run every recurrent node, else the CPU; or a list in order of preference, where
            "cpu" after "cuda" also allows the CPU for nodes that CUDA has no kernel for.
        host: its threads and memory.
        cuda_rewrite: whether recurrent nodes that CUDA has no kernel for are rewritten to a form that stays on the GPU.
            None does so where CUDA was asked for by name, and not for "auto", which a session may try again (`auto`).
        model: bytes to open in the file's place, made from it.

    Raises:
        ProviderError: none of them can run the model; the message has each one's cause and remedy.
        ArtifactError: ONNX Runtime cannot open the file on any provider.
    """
    if importlib.util.find_spec("onnxruntime") is None:
        raise ProviderError("onnxruntime is not installed: pip install 'seqport[cpu]', or 'seqport[gpu]' for CUDA")
    host = host or Host()
    source = Source(path, model)
    wanted = parse(provider)
    by_name = provider != "auto"
    passed_over: list[str] = []
    for name in wanted:
        if name == "cpu":
            session = source.open(host, CPU_PROVIDER)
            return Opened(session, "cpu", "; ".join(passed_over), _placement(session, "cpu"))
        rewrite = by_name if cuda_rewrite is None else cuda_rewrite
        opened = _try_cuda(source, name, host, rewrite=rewrite, mixed_allowed=by_name and "cpu" in wanted)
        if isinstance(opened, Opened):
            notes = [*passed_over, opened.note] if opened.note else passed_over
            return Opened(opened.session, name, "; ".join(notes), opened.placement)
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


def _try_cuda(source: Source, name: str, host: Host, *, rewrite: bool, mixed_allowed: bool) -> Opened | str:
    """The model opened on a GPU, or the reason why not."""
    device = int(name.split(":")[1])
    problem = cuda.problem(device) or trial.problem(device)
    if problem:
        return problem
    found = gpu_model(source.path, source.model, rewrite=rewrite)
    try:
        session = Source(source.path, found.model).open(
            host, (cuda.CUDA_PROVIDER, cuda.provider_options(device)), CPU_PROVIDER
        )
    except ArtifactError as error:
        source.open(host, CPU_PROVIDER)  # raises where the file is at fault, not CUDA
        return str(error.__cause__)
    placement = _placement(session, name, found.rewritten)
    strays = [node for node, place in placement.items() if place != name]
    if strays and not mixed_allowed:
        return _strays(name, found, strays, rewrite=rewrite)
    notes = []
    if found.rewritten:
        notes.append(f"rewritten to stay on {name}: {_reasons(found.rewritten)}")
    if strays:
        notes.append(f"on the CPU: {_reasons({node: found.left.get(node, []) for node in strays})}")
    return Opened(session, name, "; ".join(notes), placement)


def _strays(name: str, found: GpuModel, strays: Sequence[str], *, rewrite: bool) -> str:
    """Which recurrent nodes CUDA cannot run, each with the reason, and what can be done."""
    remedy = "" if rewrite or found.obstacle else f'provider="{name}" or cuda_rewrite=True rewrites what can be, and '
    return (
        f"CUDA has no kernel for the recurrent nodes {_reasons({node: found.left.get(node, []) for node in strays})}, "
        f'which would run on the CPU{found.obstacle}: {remedy}provider=["{name}", "cpu"] allows that'
    )


def _reasons(nodes: Mapping[str, Sequence[str]]) -> str:
    return ", ".join(f"{node} ({'; '.join(why)})" if why else node for node, why in nodes.items())


def _placement(
    session: onnxruntime.InferenceSession, cuda_name: str, rewritten: Collection[str] = ()
) -> dict[str, str]:
    """Each recurrent node's name to its provider; its index makes up for a name that says too little.

    A rewritten node is the Scan of its name, and is on the GPU where all of its steps are too.
    """
    short = {CPU_PROVIDER: "cpu", cuda.CUDA_PROVIDER: cuda_name}
    placement: dict[str, str] = {}
    elsewhere: dict[str, str] = {}
    for subgraph in session.get_provider_graph_assignment_info():
        place = short.get(str(subgraph.ep_name), str(subgraph.ep_name))
        for node in subgraph.get_nodes():
            name = str(node.name)
            if node.op_type in _RECURRENT or (node.op_type == "Scan" and name in rewritten):
                if not name or name in placement:
                    name = f"{name or node.op_type}_{len(placement)}"
                placement[name] = place
            elif place != cuda_name and STEP in name:
                elsewhere[name.rpartition(STEP)[0]] = place
    return {name: elsewhere.get(name, place) if name in rewritten else place for name, place in placement.items()}
