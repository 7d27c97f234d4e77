"""A model onto the disk: whole or not at all, with its weights beside it where one file cannot hold them.

Needs: a finished model, and a folder that exists. Guarantees: the same bytes for the same model; `<name>.onnx` alone,
or with `<name>.onnx.data`. A write that fails leaves both as they were. At no moment does an ONNX file stand
beside the weights of another: while a pair is replaced, there is none.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import onnx
import onnx_ir as ir

from seqport.exporters.errors import ExportError
from seqport.exporters.serial import large_weights, reference, replaced_weights, weights_of

# Bytes of weights above which they stand beside the file: protobuf ends at 2 GiB, and the graph needs some of that.
EXTERNAL_ABOVE = 1_500_000_000
# Where a tensor may begin in the data file: at a cache line, so that it can be mapped and read in place.
_ALIGNMENT = 64


def write(model: ir.Model, path: Path, external_data: bool | None = None) -> Path:
    """Write a model.

    Args:
        model: whole.
        path: the ONNX file.
        external_data: whether the weights go to a file of their own, `<name>.onnx.data`, in the same folder; None
            where there are more than EXTERNAL_ABOVE bytes of them.

    Raises:
        ExportError: the weights do not fit the one file that was asked for, or a folder has the data file's name.
    """
    ir.external_data.load_to_model(model)
    size = sum(tensor.nbytes for tensor in weights_of(model).values())
    beside = data_path(path)
    stale = beside if has_data(path) else None
    with ExitStack() as stack:
        if external_data or (external_data is None and size > EXTERNAL_ABOVE):
            if beside.is_dir():
                raise ExportError(f"{beside} is a folder, and the weights go to a file of that name: move it away")
            weights = stack.enter_context(_staged(beside))
            graph = stack.enter_context(_staged(path))
            graph.write_bytes(_with_weights_in(weights, model, beside.name))
            _replace_pair(graph, path, weights, beside)
        else:
            graph = stack.enter_context(_staged(path))
            graph.write_bytes(_in_one(model, size))
            graph.replace(path)
            if stale:
                stale.unlink(missing_ok=True)
    return path


def data_path(path: Path) -> Path:
    """Where the weights of an ONNX file go that stand beside it."""
    return path.with_name(f"{path.name}.data")


def _in_one(model: ir.Model, size: int) -> bytes:
    try:
        return ir.to_proto(model).SerializeToString(deterministic=True)
    except Exception as error:
        raise ExportError(
            f"{size / 1e9:.2f} GB of weights do not fit one ONNX file, which ends at 2 GB: leave external_data out, "
            "and they are written beside it"
        ) from error


def _with_weights_in(file: Path, model: ir.Model, location: str) -> bytes:
    """Write the large weights one after the other, and return the graph that refers to them."""
    references = {}
    with file.open("wb") as target:
        for name, tensor in large_weights(model).items():
            target.write(bytes(-target.tell() % _ALIGNMENT))
            references[name] = reference(tensor, name, location, target.tell())
            target.flush()  # a tensor may write past the buffer
            to_file = getattr(tensor, "tofile", None)  # without a copy, where a tensor offers it
            to_file(target) if to_file else target.write(tensor.tobytes())
            target.seek(0, os.SEEK_END)
    with replaced_weights(model, references):
        return ir.to_proto(model).SerializeToString(deterministic=True)


def has_data(path: Path) -> bool:
    """Whether an ONNX file that is there keeps its weights in the data file beside it."""
    data = data_path(path)
    if not (path.is_file() and data.is_file()):
        return False
    try:
        graph = onnx.load(path, load_external_data=False).graph
    except Exception:  # whatever it is, the data beside it is not known to be its own
        return False
    return any(entry.value == data.name for tensor in graph.initializer for entry in tensor.external_data)


@contextmanager
def _staged(path: Path) -> Iterator[Path]:
    """A new file beside its place, with a new file's permissions; gone at the end unless it was moved there."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    temporary = Path(name)
    try:
        temporary.chmod(0o666 & ~_umask())
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def _replace_pair(graph: Path, path: Path, weights: Path, beside: Path) -> None:
    """Move both files to their places; where that fails, what stood there stands there again."""
    with ExitStack() as aside, ExitStack() as undo:
        for old in (path, beside):  # the graph goes first and comes last
            if old.exists():
                kept = aside.enter_context(_staged(old))
                old.replace(kept)
                undo.callback(kept.replace, old)
        weights.replace(beside)
        undo.callback(beside.unlink)
        graph.replace(path)
        undo.pop_all()


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
