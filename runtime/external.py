"""The weights that an ONNX file keeps in other files, found without reading either.

ONNX Runtime maps such a file into memory and trusts the offsets; a file that is missing or was cut short is
told here, by its name.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from seqport.runtime.errors import ArtifactError
from seqport.runtime.wire import BYTES, VARINT, entry, skip, take, varint

# Field numbers of onnx.ModelProto, GraphProto and TensorProto: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
_GRAPH, _INITIALIZER, _EXTERNAL_DATA, _DATA_LOCATION = 7, 5, 13, 14


def data_files(path: str | Path) -> dict[Path, int]:
    """The files beside an ONNX file that hold its weights, each with the bytes that it must have at least.

    Args:
        path: an ONNX file; what is no such file has none.
    """
    path = Path(path)
    found: dict[Path, int] = {}
    with path.open("rb") as file:
        try:
            for end in _messages(file, path.stat().st_size, _GRAPH):
                for tensor in _messages(file, end, _INITIALIZER):
                    fields = _reference(file, tensor)
                    if "location" in fields:
                        place = path.parent / fields["location"]
                        last = int(fields.get("offset", 0)) + int(fields.get("length", 0))
                        found[place] = max(last, found.get(place, 0))
        except (EOFError, ValueError):  # whoever opens the model says what is wrong with it
            return {}
    return found


def require_data_files(path: str | Path) -> None:
    """Refuse an ONNX file whose weights are not all there.

    Raises:
        ArtifactError: a file is missing, or shorter than the graph says.
    """
    for place, size in data_files(path).items():
        if not place.is_file():
            raise ArtifactError(
                f"{path} keeps its weights in {place}, which does not exist: "
                "copy both files into one folder, under the names that they were written with"
            )
        if place.stat().st_size < size:
            raise ArtifactError(
                f"{path} keeps {size} bytes of weights in {place}, which has {place.stat().st_size}: "
                "was the download or copy cut short?"
            )


def _messages(file: BinaryIO, end: int, wanted: int) -> Iterator[int]:
    """The ends of the messages of one field, in a message that ends at `end`; the file stands at the start of each."""
    while file.tell() < end:
        number, wire_type = divmod(varint(file), 8)
        if number != wanted or wire_type != BYTES:
            skip(file, wire_type, end)
            continue
        inner = varint(file)
        inner += file.tell()
        if inner > end:
            raise EOFError
        yield inner
        file.seek(inner)


def _reference(file: BinaryIO, end: int) -> dict[str, str]:
    """Where a tensor's bytes are; nothing for one that holds them itself."""
    fields: dict[str, str] = {}
    external = 0
    while file.tell() < end:
        number, wire_type = divmod(varint(file), 8)
        if number == _EXTERNAL_DATA and wire_type == BYTES:
            key, value = entry(take(file, varint(file), end))
            fields[key] = value
        elif number == _DATA_LOCATION and wire_type == VARINT:
            external = varint(file)
        else:
            skip(file, wire_type, end)
    return fields if external else {}
