"""The list of who takes part, and what each one must be able to do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from seqport.pipeline.bench.cases import Case, Inputs, Network
from seqport.pipeline.errors import PipelineError

# The numbers of the wanted answers, in one shape for all kinds: [valid steps, features], row after row.
Answer = np.ndarray


@dataclass(frozen=True)
class Prepared:
    """One contestant before one case.

    Attributes:
        call: runs it once, from inputs in the framework's own form to its own outputs. This is timed.
        answer: what it gives, at valid steps only. This is compared before anything is timed.
    """

    call: Callable[[], object]
    answer: Callable[[], Answer]


class Contestant(Protocol):
    """One network, loaded."""

    def __init__(self, network: Network, folder: Path) -> None: ...

    def prepare(self, case: Case, inputs: Inputs) -> Prepared:
        """Lay the inputs out. Raises PipelineError where this contestant cannot answer such a case."""
        ...


@dataclass(frozen=True)
class Entry:
    """Who takes part.

    Attributes:
        name: as it stands in tables.
        worker: the process that runs it: one a framework, so that none disturbs another.
        maker: module and class.
        kinds: of cases that it answers.
        device: "cpu" or "cuda".
        most_units: networks of more hidden units are not for it, because they say nothing new.
        small: only batches of 8 rows, all of one length, in one direction.
        limit: no contestant, but a bound: what it takes at least.
        resident: input and output stay on the device, so that it does less than those from and to the host.
        own: seqport, in one of its ways.
        seconds: it may take so long to open.
    """

    name: str
    worker: str
    maker: str
    kinds: tuple[str, ...] = ("batch",)
    device: str = "cpu"
    most_units: int = 1024
    small: bool = False
    limit: bool = False
    resident: bool = False
    own: bool = False
    seconds: float = 180.0

    def takes(self, case: Case) -> bool:
        """Whether the case is for it."""
        is_small = case.batch == 8 and case.fill == 1 and not case.network.bidirectional
        fits = case.network.num_hidden_units <= self.most_units and (is_small or not self.small)
        return case.kind in self.kinds and fits


_HERE = "seqport.pipeline.bench.contestants"
OWN, OWN_CUDA, OWN_BOUND = "seqport", "seqport (CUDA)", "seqport (bound)"
NODE, NODE_CUDA = "ONNX Runtime", "ONNX Runtime (CUDA)"
LOOP = "tf2onnx Loop"
PACKED = "PyTorch packed"
PADDED = "PyTorch padded"
CUDNN_PACKED, CUDNN_PADDED = "cuDNN packed", "cuDNN padded"
# What the others' answers are compared with: the module that the artifact was exported from.
REFERENCE = PACKED
_STEPWISE = ("batch", "stream")

ENTRIES: tuple[Entry, ...] = (
    Entry(OWN, "onnxruntime", f"{_HERE}.sessions:Own", (*_STEPWISE, "list"), own=True),
    Entry("seqport on ONNX Runtime's nodes", "onnxruntime", f"{_HERE}.sessions:OnNodes", most_units=256, own=True),
    Entry("seqport stream", "onnxruntime", f"{_HERE}.sessions:OwnStream", ("stream",), own=True),
    Entry(NODE, "onnxruntime", f"{_HERE}.sessions:Node", _STEPWISE),
    Entry(LOOP, "onnxruntime", f"{_HERE}.sessions:Loop", _STEPWISE),
    Entry(PACKED, "pytorch", f"{_HERE}.pytorch:Packed", (*_STEPWISE, "list")),
    Entry(PADDED, "pytorch", f"{_HERE}.pytorch:Padded"),
    Entry("PyTorch compiled", "pytorch", f"{_HERE}.pytorch:Compiled", most_units=256),
    Entry(
        "PyTorch compiled whole", "pytorch", f"{_HERE}.pytorch:CompiledWhole", most_units=64, small=True, seconds=90.0
    ),
    Entry("Keras", "tensorflow", f"{_HERE}.keras:Masked", _STEPWISE),
    Entry("OpenVINO", "openvino", f"{_HERE}.openvino:Compiled", _STEPWISE),
    Entry("padded to the longest", "onnxruntime", f"{_HERE}.lists:Longest", ("list",)),
    Entry("fixed buckets", "onnxruntime", f"{_HERE}.lists:Buckets", ("list",)),
    Entry("longest (ONNX Runtime)", "onnxruntime", f"{_HERE}.lists:LongestNode", ("list",)),
    Entry("buckets (ONNX Runtime)", "onnxruntime", f"{_HERE}.lists:BucketsNode", ("list",)),
    Entry("sgemm (PyTorch)", "pytorch", f"{_HERE}.sgemm:OfPyTorch", limit=True),
    Entry("sgemm (NumPy)", "pytorch", f"{_HERE}.sgemm:OfNumPy", limit=True),
    Entry(OWN_CUDA, "onnxruntime", f"{_HERE}.sessions:OwnCuda", _STEPWISE, "cuda", own=True),
    Entry(OWN_BOUND, "onnxruntime", f"{_HERE}.bound:OwnBound", ("batch",), "cuda", own=True),
    Entry(NODE_CUDA, "onnxruntime", f"{_HERE}.bound:NodeCuda", _STEPWISE, "cuda"),
    Entry(CUDNN_PACKED, "pytorch", f"{_HERE}.cudnn:Packed", _STEPWISE, "cuda"),
    Entry(CUDNN_PADDED, "pytorch", f"{_HERE}.cudnn:Padded", ("batch",), "cuda"),
    Entry("ONNX Runtime (device)", "onnxruntime", f"{_HERE}.bound:OnDevice", device="cuda", resident=True),
    Entry("cuDNN packed (device)", "pytorch", f"{_HERE}.cudnn:PackedOnDevice", device="cuda", resident=True),
    Entry("cuDNN padded (device)", "pytorch", f"{_HERE}.cudnn:PaddedOnDevice", device="cuda", resident=True),
)
_BY_NAME = {entry.name: entry for entry in ENTRIES}


def entry_of(name: str) -> Entry:
    """The entry of this name.

    Raises:
        PipelineError: there is none.
    """
    if name not in _BY_NAME:
        raise PipelineError(f"nobody called {name!r} takes part, expected one of {', '.join(_BY_NAME)}")
    return _BY_NAME[name]


def entries_for(case: Case, device: str = "cpu", names: Sequence[str] | None = None) -> list[Entry]:
    """Who takes part in a case, in the order of the list; the reference always does, on its own device."""
    chosen = [e for e in ENTRIES if e.takes(case) and (e.device == device or e.name == REFERENCE)]
    if names is not None:
        chosen = [entry for entry in chosen if entry.name in names or entry.name == REFERENCE]
    return chosen
