"""What the runtime refuses, one class a cause.

SeqportError
├── ArtifactError            the file cannot be served
│   ├── NotOnnxError         it is no ONNX model
│   └── NoMetadataError      it is ONNX, but nothing in it says how lengths and axes are meant
├── InputError               what came in does not fit the signature
│   ├── InputNameError       a name is missing or unknown
│   ├── InputDtypeError      another element type
│   ├── InputRankError       another number of axes
│   ├── InputSizeError       a fixed axis, or two uses of one dynamic axis, of different sizes
│   ├── LengthsError         a length of 0, negative, or above the sequence axis
│   ├── EmptyBatchError      a dynamic axis of size 0
│   └── InputValueError      a value that the model itself does not take, such as an id beyond its table
├── StreamError              chunk by chunk does not work here
│   ├── CannotStreamError    the model needs the whole sequence at once: which layer, and why
│   ├── SavedStreamError     bytes that are no saved stream of this artifact
│   └── StreamIdError        no stream has that id
├── ProviderError            the wanted device cannot run the model
├── OutputBufferError        an array that an output is to be written into does not fit
├── PackingError             the model cannot leave its padding out, and was asked to
└── KernelsError             the model cannot run on seqport's own operators, and was asked to
"""

from __future__ import annotations

from seqport.errors import SeqportError


class ArtifactError(SeqportError):
    """A file that cannot be served."""


class NotOnnxError(ArtifactError):
    """The file is missing, empty or no ONNX model."""


class NoMetadataError(ArtifactError):
    """The ONNX file lacks seqport's metadata, which this call needs."""


class InputError(SeqportError, ValueError):
    """An input does not fit the signature."""


class InputNameError(InputError):
    """An input is missing, or its name is unknown."""


class InputDtypeError(InputError):
    """An input has another element type than the signature."""


class InputRankError(InputError):
    """An input has another number of axes than the signature."""


class InputSizeError(InputError):
    """A fixed axis has another size, or one dynamic axis has two sizes."""


class LengthsError(InputError):
    """A length is 0, negative, or above the size of its sequence axis."""


class EmptyBatchError(InputError):
    """A dynamic axis has size 0: there is nothing to compute."""


class InputValueError(InputError):
    """A value that fits the signature, and that the model does not take."""


class PackingError(SeqportError):
    """A model that cannot run packed, and was asked to."""


class KernelsError(SeqportError):
    """A model that cannot run on seqport's own operators, and was asked to."""


class OutputBufferError(SeqportError, ValueError):
    """An array that an output is to be written into does not fit the output."""


class StreamError(SeqportError):
    """A sequence cannot go in chunk by chunk."""


class CannotStreamError(StreamError):
    """The model needs the whole sequence at once."""


class SavedStreamError(StreamError, ValueError):
    """Bytes that are no saved stream of this artifact."""


class StreamIdError(StreamError, LookupError):
    """No stream has that id."""


class ProviderError(SeqportError):
    """The wanted execution provider cannot run the model on this machine."""


def refused_value(error: Exception) -> InputValueError:
    """ONNX Runtime's own complaint about a run, whose inputs had fitted the signature."""
    reason = " ".join(str(error).split())
    reason = reason.rpartition("Status Message: ")[2] or reason
    return InputValueError(
        f"the model does not take these values: {reason}. "
        "Expected ids within their table, and sequences of as many steps as the model's layers need"
    )
