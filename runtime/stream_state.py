"""What one stream carries from chunk to chunk, and how it is written as bytes.

The bytes, all integers little-endian:

    8   "SQPSTRM" and a zero byte
    4   version, 1
    4   size of the header
        header, JSON: artifact (its hash), steps, and for states and answers each tensor's name, dtype and shape
        the tensors' elements, little-endian, in the header's order: states, then answers
    32  SHA-256 of everything before

Nothing in them is executed when they are read.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from seqport.runtime.errors import SavedStreamError

_MAGIC, _VERSION = b"SQPSTRM\0", 1
_FIXED = struct.Struct("<8sII")
_DIGEST = 32
# An input [1, batch, 1] of a model with open states: True for a row that has no state yet, and starts from the
# layer's own. No name of an exported model begins so.
FRESH_INPUT = "stream/fresh"
Shapes = Mapping[str, tuple[str, tuple[int | str, ...]]]


@dataclass(frozen=True)
class StateTensor:
    """One state of one layer, [1, batch, num_hidden_units], float32, where a graph was opened for it.

    Attributes:
        name: "<layer>.h" or "<layer>.c".
        input: the optional graph input that it comes in by.
        output: the graph output that gives it after the last step.
        num_hidden_units: its size.
    """

    name: str
    input: str
    output: str
    num_hidden_units: int


@dataclass(frozen=True)
class StreamState:
    """One stream's place: nobody changes it, the next chunk makes another.

    Attributes:
        carried: each state's name to its array, without the batch axis; empty before the first step.
        answers: the last answers of the outputs without steps.
        steps: how many steps have passed.
    """

    carried: Mapping[str, np.ndarray] = field(default_factory=dict)
    answers: Mapping[str, np.ndarray] = field(default_factory=dict)
    steps: int = 0


FRESH = StreamState()


@dataclass(frozen=True)
class Together:
    """The places of streams that shared a run, still in its arrays, so that they can share the next as they are.

    Attributes:
        carried: each state's name to its array, with the batch axis.
        batch: the position of that axis in each.
        answers: the last answers of each stream.
        steps: how many steps of each have passed.
    """

    carried: Mapping[str, np.ndarray]
    batch: Mapping[str, int]
    answers: Sequence[Mapping[str, np.ndarray]]
    steps: Sequence[int]

    def apart(self) -> list[StreamState]:
        """Each stream's own state, copied: a view would keep the whole batch in memory."""
        return [
            StreamState(
                {name: row_of(array, self.batch[name], place) for name, array in self.carried.items()}, answers, steps
            )
            for place, (answers, steps) in enumerate(zip(self.answers, self.steps, strict=True))
        ]


def row_of(array: np.ndarray, batch: int, place: int) -> np.ndarray:
    """A copy of one row of a batch."""
    return array[(slice(None),) * batch + (place,)].copy()


def to_bytes(state: StreamState, artifact: str) -> bytes:
    """The state as bytes that name the artifact (its hash)."""
    tensors = [*state.carried.values(), *state.answers.values()]
    header = {
        "artifact": artifact,
        "steps": state.steps,
        "states": _listed(state.carried),
        "answers": _listed(state.answers),
    }
    text = json.dumps(header, sort_keys=True, separators=(",", ":")).encode()
    parts = [_FIXED.pack(_MAGIC, _VERSION, len(text)), text]
    parts += [array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes() for array in tensors]
    body = b"".join(parts)
    return body + hashlib.sha256(body).digest()


def from_bytes(data: bytes, artifact: str, states: Shapes, answers: Shapes) -> StreamState:
    """Read what `to_bytes` wrote.

    Args:
        data: the bytes.
        artifact: the hash of the artifact that goes on.
        states: each state's dtype and shape, where a name stands for any size.
        answers: the same of the outputs without steps.

    Raises:
        SavedStreamError: they are damaged, of another version, another artifact or other shapes.
    """
    header, body = _opened(data)
    try:
        found, steps = str(header["artifact"]), int(header["steps"])
        listed = {
            key: [(str(n), str(dtype), tuple(map(int, shape))) for n, dtype, shape in header[key]]
            for key in ("states", "answers")
        }
    except (KeyError, TypeError, ValueError) as error:
        raise SavedStreamError(f"the saved stream's header is damaged ({error!r}): save it again") from error
    if found != artifact:
        raise SavedStreamError(
            f"the saved stream is of the artifact {found[:12]}…, and this one is {artifact[:12]}…: "
            "restore it into the model that saved it"
        )
    if not steps:
        return FRESH
    _require(listed["states"], states, "states")
    _require(listed["answers"], answers, "answers")
    arrays = _arrays([*listed["states"], *listed["answers"]], body)
    count = len(listed["states"])
    return StreamState(dict(arrays[:count]), dict(arrays[count:]), steps)


def _listed(arrays: Mapping[str, np.ndarray]) -> list[list[Any]]:
    return [[name, array.dtype.name, list(array.shape)] for name, array in arrays.items()]


def _opened(data: bytes) -> tuple[dict[str, Any], bytes]:
    """The header and the elements, once the bytes are known to be whole."""
    if not isinstance(data, bytes | bytearray | memoryview):
        raise SavedStreamError(f"a saved stream came as {type(data).__name__}, expected the bytes that save() gave")
    data = bytes(data)
    if len(data) < _FIXED.size + _DIGEST or not data.startswith(_MAGIC):
        raise SavedStreamError(f"{len(data)} bytes that are no saved stream came, expected what save() gave")
    _, version, size = _FIXED.unpack_from(data)
    if version != _VERSION:
        raise SavedStreamError(
            f"the saved stream has version {version}, and this seqport reads {_VERSION}: "
            "restore it with the seqport that saved it"
        )
    if hashlib.sha256(data[:-_DIGEST]).digest() != data[-_DIGEST:]:
        raise SavedStreamError(
            f"the saved stream of {len(data)} bytes is damaged, its checksum does not fit: "
            "was it cut short? Take an earlier copy, or begin the stream again"
        )
    end = _FIXED.size + size
    try:
        header = json.loads(data[_FIXED.size : end])
    except ValueError as error:
        raise SavedStreamError(f"the saved stream's header is damaged ({error}): save it again") from error
    return header, data[end:-_DIGEST]


def _require(listed: Iterable[tuple[str, str, tuple[int, ...]]], wanted: Shapes, what: str) -> None:
    """The names, dtypes and shapes that the model carries: the hash covers its weights, not its graph."""
    found = {name: (dtype, shape) for name, dtype, shape in listed}
    fits = found.keys() == wanted.keys() and all(
        dtype == wanted[name][0]
        and len(shape) == len(wanted[name][1])
        and all(isinstance(axis, str) or axis == size for axis, size in zip(wanted[name][1], shape, strict=True))
        for name, (dtype, shape) in found.items()
    )
    if not fits:
        raise SavedStreamError(
            f"the saved stream holds the {what} {_said(found)}, and the model has {_said(wanted)}: "
            "its graph was changed since, begin the stream again"
        )


def _said(shapes: Shapes) -> str:
    return ", ".join(f"{name!r} {dtype}[{', '.join(map(str, axes))}]" for name, (dtype, axes) in shapes.items()) or "-"


def _arrays(listed: list[tuple[str, str, tuple[int, ...]]], body: bytes) -> list[tuple[str, np.ndarray]]:
    arrays: list[tuple[str, np.ndarray]] = []
    start = 0
    for name, dtype, shape in listed:
        kind = np.dtype(dtype).newbyteorder("<")
        count = int(np.prod(shape, dtype=np.int64))
        if start + count * kind.itemsize > len(body):
            raise SavedStreamError(f"the saved stream ends within {name!r}: save it again")
        array = np.frombuffer(body, kind, count, start).reshape(shape).astype(np.dtype(dtype))
        arrays.append((name, array))
        start += count * kind.itemsize
    return arrays
