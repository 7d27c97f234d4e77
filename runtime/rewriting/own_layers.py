"""Which recurrent nodes seqport's operators can compute, and why not, where they cannot."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from onnx import ModelProto

from seqport.runtime.rewriting.candidates import fed_by
from seqport.runtime.rewriting.lengths import first_alike
from seqport.runtime.rewriting.links import Link, link_behind
from seqport.runtime.rewriting.native import DEFAULTS, GATES, Native
from seqport.runtime.rewriting.view import View

# The first that asks for a part of a shape.
_OPSET = 15
# enum cell of cells.h
CELLS = ("RNN tanh", "RNN relu", "GRU reset after", "GRU reset before", "LSTM")


@dataclass(frozen=True)
class Machine:
    """What the operators are made for.

    Attributes:
        threads: that may compute.
        cells: of CELLS, those that were proven here.
        vectors: floats a vector; 0 for the widest that the processor has.
        keeps: whether the memory of a run is kept for the next one.
        lists: whether a batch may be a list (see `list_safe`).
        hides_nan: whether NaN becomes a number where it does in ONNX Runtime's nodes; else NaN stays NaN.
    """

    threads: int
    cells: Collection[str] = CELLS
    vectors: int = 0
    keeps: bool = True
    lists: bool = False
    hides_nan: bool = True


@dataclass(frozen=True)
class OwnLayer:
    """A layer that the operators compute.

    Attributes:
        native: its node.
        cell: of CELLS.
        weights: W, R and B, each with its directions first.
        link: what stands behind it.
        lengths: the first of all names that hold the same; "" where every row has all steps.
        fed: what it takes, in front of the Transpose that puts time first, where there is one.
        batch_major: there is.
    """

    native: Native
    cell: str
    weights: Sequence[np.ndarray]
    link: Link
    lengths: str
    fed: str
    batch_major: bool


def cell_of(native: Native) -> str:
    """The name of a layer's cell among CELLS; "" where the operators have no such cell."""
    plain = not native.peepholes and not native.attributes.get("clip") and not native.attributes.get("input_forget")
    activations = [native.activations(direction) for direction in range(native.num_directions)]
    if not plain or any(one != activations[0] for one in activations):
        return ""
    if native.cell == "RNN":
        return {"Tanh": "RNN tanh", "Relu": "RNN relu"}.get(activations[0][0], "")
    if activations[0] != DEFAULTS[native.cell]:
        return ""
    if native.cell == "LSTM":
        return "LSTM"
    return "GRU reset after" if native.attributes.get("linear_before_reset") else "GRU reset before"


def own_layers(model: ModelProto, view: View, machine: Machine) -> list[OwnLayer]:
    """The layers that the operators compute: none where one that takes lengths has to stay."""
    if _opset(model) < _OPSET:
        return []
    natives = [native for node in view.graph.node if (native := Native.of(node))]
    alike = first_alike(view, [native.lengths for native in natives if native.lengths])
    layers = []
    for native in natives:
        cell = cell_of(native)
        weights = native.weights(view.constant) if cell in machine.cells else None
        if weights is not None and _fit(native, weights):
            fed = fed_by(view, native)
            lengths = alike[native.lengths] if native.lengths else ""
            layers.append(
                OwnLayer(native, cell, weights, link_behind(view, native), lengths, fed, batch_major=fed != native.x)
            )
        elif native.lengths:
            return []
    return layers


def why_none(model: ModelProto, folder: Path, why_not: Mapping[str, str]) -> str:
    """Why `own_layers` finds none, or they could not be put in.

    Args:
        model: as it was.
        folder: where its external data are.
        why_not: of each of CELLS, why it may not be used; empty where it may.
    """
    if _opset(model) < _OPSET:
        return f"the model has opset {_opset(model)}, expected {_OPSET} or later: export it again"
    view = View(model, folder)
    natives = [native for node in view.graph.node if (native := Native.of(node))]
    for native in sorted(natives, key=lambda native: not native.lengths):
        cell, name = cell_of(native), native.node.name
        if not cell:
            return f"layer {name!r} has a clip, peepholes or others than the usual activations"
        if why_not[cell]:
            return why_not[cell]
        weights = native.weights(view.constant)
        if weights is None or not _fit(native, weights):
            return f"the weights of layer {name!r} are computed, or not float32, or of other shapes than it says"
    return "it has no recurrent layer in the usual layout" if not natives else "its nodes cannot be put in order anew"


def _fit(native: Native, weights: Sequence[np.ndarray]) -> bool:
    """Whether weights have the shapes that a node's attributes demand; ONNX Runtime says what is wrong when it runs."""
    W, R, B = (array.shape for array in weights[:3])
    D, H, rows = native.num_directions, native.hidden, GATES[native.cell] * native.hidden
    return W[:2] == (D, rows) and len(W) == 3 and W[2] > 0 < H and (D, rows, H) == R and (D, 2 * rows) == B


def _opset(model: ModelProto) -> int:
    return next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 0)
