"""Runs ONNX artifacts: sessions, ragged batches and generation, with nothing but NumPy and ONNX Runtime.

ONNX Runtime itself is imported when the first `Session` opens, so that a description can be read
where it is not installed.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from seqport.runtime.artifact import (
    Description,
    OutputError,
    PrecisionInfo,
    RecurrentInfo,
    SequenceInfo,
    StateInfo,
    TensorInfo,
    read_description,
)
from seqport.runtime.binding import Binding
from seqport.runtime.errors import (
    ArtifactError,
    CannotStreamError,
    EmptyBatchError,
    InputDtypeError,
    InputError,
    InputNameError,
    InputRankError,
    InputSizeError,
    InputValueError,
    KernelsError,
    LengthsError,
    NoMetadataError,
    NotOnnxError,
    OutputBufferError,
    PackingError,
    ProviderError,
    SavedStreamError,
    StreamError,
    StreamIdError,
)
from seqport.runtime.session import Session
from seqport.runtime.threads import share_threads

if TYPE_CHECKING:
    from seqport.runtime import generate
    from seqport.runtime.streams import Stream, Streams

__all__ = [
    "ArtifactError",
    "Binding",
    "CannotStreamError",
    "Description",
    "EmptyBatchError",
    "InputDtypeError",
    "InputError",
    "InputNameError",
    "InputRankError",
    "InputSizeError",
    "InputValueError",
    "KernelsError",
    "LengthsError",
    "NoMetadataError",
    "NotOnnxError",
    "OutputBufferError",
    "OutputError",
    "PackingError",
    "PrecisionInfo",
    "ProviderError",
    "RecurrentInfo",
    "SavedStreamError",
    "SequenceInfo",
    "Session",
    "StateInfo",
    "Stream",
    "StreamError",
    "StreamIdError",
    "Streams",
    "TensorInfo",
    "generate",
    "read_description",
    "share_threads",
]


def __getattr__(name: str) -> Any:
    """What not every application has is imported when it is asked for."""
    if name == "generate":
        return importlib.import_module("seqport.runtime.generate")
    if name in ("Stream", "Streams"):
        from seqport.runtime import streams

        return getattr(streams, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
