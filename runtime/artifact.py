"""What an artifact says of itself: its signature, where lengths go, and where it came from.

The description travels inside the ONNX file as one metadata property. Exporters write it with
`Description.to_json`; the runtime reads it with `read_description`, which scans the top level of
the protobuf and skips the graph and its weights, so that neither `onnx` nor the model is loaded.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from seqport.runtime.errors import ArtifactError, NoMetadataError, NotOnnxError
from seqport.runtime.wire import BYTES, entry, skip, take, varint

METADATA_KEY = "seqport"
FORMAT = 1

# Field numbers of onnx.ModelProto.
# https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
_IR_VERSION, _GRAPH, _METADATA_PROPS = 1, 7, 14


@dataclass(frozen=True)
class TensorInfo:
    """One input or output: a string axis is dynamic, an int is fixed."""

    name: str
    dtype: str  # NumPy's name: "float32", "int64", "bool"
    axes: tuple[str | int, ...]


@dataclass(frozen=True)
class SequenceInfo:
    """One padded sequence axis: who carries its lengths, and who is padded along it.

    `inputs` and `outputs` map a tensor's name to the position of its sequence axis. An output's
    axis may be shorter than the inputs' (PyTorch cuts it to max(lengths)), never longer.
    """

    axis: str | int
    batch_axis: str | int
    lengths: str | None  # the input with the lengths; None where the model derives a mask from its data
    inputs: dict[str, int]
    outputs: dict[str, int]
    padding_value: float = 0.0  # what the model takes for padding in its inputs
    padded: bool = (
        True  # rows of different lengths may share a batch; else only rows of equal length give their answers
    )


@dataclass(frozen=True)
class StateInfo:
    """A state that one call gives and the next may take: h_T goes back in as h_0."""

    input: str
    output: str


@dataclass(frozen=True)
class RecurrentInfo:
    """One native recurrent node, under the name that the user gave its layer."""

    node: str
    op: str  # "RNN", "GRU", "LSTM"
    layer: str
    direction: str
    num_hidden_units: int
    lengths: str | None  # the graph input that reaches sequence_lens; "mask" where a mask does
    # What stands at padded steps: "zero", "hold" (the previous output), "state" (the same, and the initial state
    # before a row's first valid step), "value:-1.0".
    padded_outputs: str


@dataclass(frozen=True)
class OutputError:
    """By how much an output differs from the model's own: relative to each value where that is above 1.

    For whole numbers, both are the share of elements that are others.
    """

    output: str
    largest: float
    mean: float


@dataclass(frozen=True)
class PrecisionInfo:
    """Another precision than the model's own, and what it costs."""

    name: str  # "float16", "bfloat16", "int8-weights", "int8-dynamic", "int8-dynamic-unproven"
    bound: float  # the largest difference that was allowed
    errors: tuple[OutputError, ...]
    faults: tuple[str, ...] = ()  # checks of the padding that it fails, kept because it was asked for as unproven


@dataclass(frozen=True)
class Description:
    """Everything that an artifact says of itself."""

    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    sequences: tuple[SequenceInfo, ...] = ()
    states: tuple[StateInfo, ...] = ()
    recurrent: tuple[RecurrentInfo, ...] = ()
    convention: str = "none"  # whose padding convention: "pytorch", "keras"
    opset: int = 0
    source: dict[str, str] = field(default_factory=dict)  # framework, versions of what made the file
    weights_sha256: str = ""
    breaks: tuple[str, ...] = ()  # contract breaks kept under strict=False
    notes: tuple[str, ...] = ()  # what the artifact does otherwise than its model: another precision, say
    limits: dict[str, tuple[int, int | None]] = field(default_factory=dict)  # axis → the smallest and largest size
    proof: dict[str, str] = field(default_factory=dict)  # how the artifact was compared with its model
    precision: PrecisionInfo | None = None  # None where it is the model's own
    tables: dict[str, tuple[int, int]] = field(default_factory=dict)  # inputs of ids → the smallest and largest id
    zeros_and_ones: tuple[str, ...] = ()  # inputs taken for masks though they hold numbers: each must be 0 or 1
    not_negative: tuple[str, ...] = ()  # inputs of whole numbers that the model refuses, or takes otherwise, below 0
    rows_independent: bool = True  # a row's answers do not depend on the other rows of its batch
    batch_axis: str | None = None  # along which rows do not see each other; None where it is fixed or not known
    steps_axis: str | None = None  # the one that the model runs along; None where it is fixed, several or not known
    format: int = FORMAT

    def to_json(self) -> str:
        """The description as JSON, the same bytes for the same content."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Description:
        """Read what `to_json` wrote.

        Raises:
            ArtifactError: the text is damaged, or of a newer format than this version reads.
        """
        try:
            raw: dict[str, Any] = json.loads(text)
            found = raw["format"]
            if found > FORMAT:
                raise ArtifactError(
                    f"the artifact's metadata has format {found}, and this seqport reads up to {FORMAT}: "
                    "upgrade seqport, or export the model again with this version"
                )
            tensors = {
                key: tuple(TensorInfo(t["name"], t["dtype"], tuple(t["axes"])) for t in raw[key])
                for key in ("inputs", "outputs")
            }
            return cls(
                **tensors,
                batch_axis=raw.get("batch_axis"),
                steps_axis=raw.get("steps_axis"),
                sequences=tuple(SequenceInfo(**s) for s in raw["sequences"]),
                states=tuple(StateInfo(**s) for s in raw["states"]),
                recurrent=tuple(RecurrentInfo(**r) for r in raw["recurrent"]),
                convention=raw["convention"],
                opset=raw["opset"],
                source=raw["source"],
                weights_sha256=raw["weights_sha256"],
                breaks=tuple(raw["breaks"]),
                notes=tuple(raw["notes"]),
                limits={axis: (low, high) for axis, (low, high) in raw.get("limits", {}).items()},
                proof=raw["proof"],
                precision=_precision(raw.get("precision")),
                tables={name: (low, high) for name, (low, high) in raw.get("tables", {}).items()},
                zeros_and_ones=tuple(raw.get("zeros_and_ones", ())),
                not_negative=tuple(raw.get("not_negative", ())),
                rows_independent=raw.get("rows_independent", True),
                format=found,
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ArtifactError(
                f"the artifact's metadata {METADATA_KEY!r} is damaged ({error!r}): export the model again"
            ) from error


def _precision(raw: dict[str, Any] | None) -> PrecisionInfo | None:
    if raw is None:
        return None
    errors = tuple(OutputError(**error) for error in raw["errors"])
    return PrecisionInfo(raw["name"], raw["bound"], errors, tuple(raw["faults"]))


def read_description(path: str | Path) -> Description:
    """The description inside an ONNX file.

    Raises:
        NotOnnxError: there is no such file, or it is no ONNX model.
        NoMetadataError: the model was not exported by seqport.
        ArtifactError: the metadata is damaged or of a newer format.
    """
    metadata = read_metadata(path)
    if METADATA_KEY not in metadata:
        raise no_metadata(path)
    return Description.from_json(metadata[METADATA_KEY])


def no_metadata(path: str | Path) -> NoMetadataError:
    """The error for a file that says nothing of itself."""
    return NoMetadataError(
        f"{path} is an ONNX model without seqport's metadata, so nothing says which input holds the lengths: "
        "export it with seqport.exporters.export (Session.run works without)"
    )


def read_metadata(path: str | Path) -> dict[str, str]:
    """All metadata properties of an ONNX file, read without its graph and weights.

    Raises:
        NotOnnxError: there is no such file, or it is no ONNX model.
    """
    path = Path(path)
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise NotOnnxError(f"{path} {what}: expected an ONNX file, as seqport.exporters.export writes it")
    metadata: dict[str, str] = {}
    seen: set[int] = set()
    size = path.stat().st_size
    with path.open("rb") as file:
        try:
            while file.tell() < size:
                number, wire_type = divmod(varint(file), 8)
                seen.add(number)
                if number == _METADATA_PROPS and wire_type == BYTES:
                    key, value = entry(take(file, varint(file), size))
                    metadata[key] = value
                else:
                    skip(file, wire_type, size)
        except (EOFError, UnicodeDecodeError, ValueError) as error:
            raise _not_onnx(path, size) from error
    if not {_IR_VERSION, _GRAPH} <= seen:
        raise _not_onnx(path, size)
    return metadata


def _not_onnx(path: Path, size: int) -> NotOnnxError:
    return NotOnnxError(
        f"{path} ({size} bytes) is no ONNX model: its bytes do not read as one. "
        "Expected a .onnx file, as seqport.exporters.export writes it; was the download or copy cut short?"
    )
