"""Runs ONNX artifacts: sessions, ragged batches and generation, with nothing but NumPy and ONNX Runtime.

ONNX Runtime itself is imported when the first `Session` opens, so that a description can be read
where it is not installed.
"""

from __future__ import annotations

from seqport.runtime import generate
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
from seqport.runtime.streams import Stream, Streams
from seqport.runtime.threads import share_threads

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
