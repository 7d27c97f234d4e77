"""The wire format of protobuf, as far as an ONNX file must be read without `onnx`: fields are skipped or taken.

https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

from typing import BinaryIO

VARINT, _FIXED64, BYTES, _FIXED32 = 0, 1, 2, 5
# Field numbers of onnx.StringStringEntryProto: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
_ENTRY_KEY, _ENTRY_VALUE = 1, 2


def varint(file: BinaryIO) -> int:
    """The next integer.

    Raises:
        EOFError: the file ends in it.
        ValueError: it has no end.
    """
    value = 0
    for shift in range(0, 70, 7):
        byte = file.read(1)
        if not byte:
            raise EOFError
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
    raise ValueError("a varint of more than ten bytes")


def take(file: BinaryIO, count: int, size: int) -> bytes:
    """The next bytes of a message that ends at `size`.

    Raises:
        EOFError: it has fewer.
    """
    if file.tell() + count > size:
        raise EOFError
    return file.read(count)


def skip(file: BinaryIO, wire_type: int, size: int) -> None:
    """Go behind a field's value, in a message that ends at `size`.

    Raises:
        EOFError: the value is longer.
        ValueError: there is no such wire type.
    """
    if wire_type == VARINT:
        varint(file)
        return
    widths = {_FIXED64: 8, _FIXED32: 4}
    count = varint(file) if wire_type == BYTES else widths.get(wire_type)
    if count is None:
        raise ValueError(f"wire type {wire_type}")
    if file.tell() + count > size:
        raise EOFError
    file.seek(count, 1)


def entry(data: bytes) -> tuple[str, str]:
    """Key and value of one StringStringEntryProto.

    Raises:
        EOFError, ValueError: it is damaged.
    """
    fields = {_ENTRY_KEY: "", _ENTRY_VALUE: ""}
    position = 0
    while position < len(data):
        tag, position = _varint_at(data, position)
        count, position = _varint_at(data, position)
        if tag % 8 != BYTES or position + count > len(data):
            raise ValueError("a metadata entry of another form")
        fields[tag // 8] = data[position : position + count].decode()
        position += count
    return fields[_ENTRY_KEY], fields[_ENTRY_VALUE]


def _varint_at(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if position >= len(data):
            raise EOFError
        byte = data[position]
        value |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if byte < 0x80:
            return value, position
