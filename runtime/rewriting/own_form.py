"""Opens a model with seqport's own operators in the place of its recurrent nodes."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import TensorProto

from seqport.runtime import kernels
from seqport.runtime.host import Host
from seqport.runtime.opening import CPU_PROVIDER, open_session
from seqport.runtime.rewriting.list_safe import takes_lists
from seqport.runtime.rewriting.not_a_number import what_hides_nan
from seqport.runtime.rewriting.own_layers import Machine, why_none
from seqport.runtime.rewriting.own_operators import use_own_operators
from seqport.runtime.rewriting.proof import proven
from seqport.runtime.rewriting.view import View

if TYPE_CHECKING:
    import onnxruntime

_LARGE = 1 << 16  # bytes


@dataclass(frozen=True)
class OwnForm:
    """A model on seqport's operators.

    Attributes:
        session: opened.
        takes_lengths: whether any of its layers does.
        takes_lists: whether it may get its rows as a list (see `list_safe`).
        hidden_by: the first node that turns NaN into a number; "" where none does.
    """

    session: onnxruntime.InferenceSession
    takes_lengths: bool
    takes_lists: bool
    hidden_by: str


def open_own_form(
    path: Path, host: Host, sequences: Collection[str], model: bytes | None = None, *, hides_nan: bool = False
) -> OwnForm | str:
    """A model with seqport's operators, opened on the CPU; or why it runs on ONNX Runtime's.

    Args:
        path: the ONNX file.
        host: its threads and memory.
        sequences: its inputs that have an entry a step.
        model: bytes that stand in the file's place, made from it.
        hides_nan: whether NaN becomes a number where it does in ONNX Runtime's nodes; else NaN stays NaN.
    """
    library = kernels.library()
    if library is None:
        return kernels.NOT_BUILT
    why_not = proven()
    cells = [cell for cell, reason in why_not.items() if not reason]
    rewritten = onnx.load(path, load_external_data=False) if model is None else onnx.load_from_string(model)
    machine = Machine(host.most_threads, cells, keeps=host.memory != "release", hides_nan=hides_nan)
    if not use_own_operators(rewritten, path.parent, machine):
        return why_none(rewritten, path.parent, why_not)
    takes_lengths = any(node.op_type == "Recurrent" and node.input[1] for node in rewritten.graph.node)
    listed = takes_lengths and takes_lists(View(rewritten, path.parent), sequences)
    for node in rewritten.graph.node if listed else ():
        for attribute in node.attribute if node.domain == kernels.DOMAIN else ():
            attribute.i = 1 if attribute.name == "lists" else attribute.i
    hidden_by = what_hides_nan(rewritten.graph)
    weights = _taken_out(rewritten)
    data = rewritten.SerializeToString()
    del rewritten
    session = open_session(data, host, CPU_PROVIDER, folder=path.parent, operators=library, weights=weights)
    return OwnForm(session, takes_lengths, listed, hidden_by)


def _taken_out(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    """The large weights of a model, by name; it is left with their shapes. As bytes they would be copied several times.

    Protobuf ends at 2 GiB, too.
    """
    weights = {}
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT and len(tensor.raw_data) > _LARGE:
            weights[tensor.name] = np.frombuffer(tensor.raw_data, np.float32).reshape(list(tensor.dims))
            tensor.ClearField("raw_data")
            tensor.data_location = TensorProto.EXTERNAL
            place = tensor.external_data.add()
            place.key, place.value = "location", "memory"  # no file: ONNX Runtime gets the array
    return weights
