"""The whole rewrite for a machine's CPU: each layer in its fastest form, in pieces of the best width."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from seqport.runtime.layer_costs import BatchCost
from seqport.runtime.rewriting.by_steps import by_steps
from seqport.runtime.rewriting.emit import Emitter
from seqport.runtime.rewriting.forms import Form, native_form
from seqport.runtime.rewriting.measure import Measure
from seqport.runtime.rewriting.native import Native
from seqport.runtime.rewriting.packing import Plan, pack


@dataclass(frozen=True)
class Rewritten:
    """A model that skips its padding.

    Attributes:
        model: with the same inputs and outputs.
        plans: of the layers that share lengths: these, and the cost.
        weights: bytes of all weights.
        layers: the name of each packed node → its form, "native" or "by_steps".
    """

    model: onnx.ModelProto
    plans: tuple[tuple[Plan, BatchCost], ...]
    weights: int
    layers: dict[str, str]


def rewrite_file(path: Path, measure: Measure) -> Rewritten | None:
    """The rewrite of an ONNX file; see `rewrite`."""
    return rewrite(onnx.load(path, load_external_data=False), path.parent, measure)


def rewrite(model: onnx.ModelProto, folder: Path, measure: Measure) -> Rewritten | None:
    """Rewrite a model in place, as packing needs it and this machine runs it fastest.

    Args:
        model: its external data may be left out.
        folder: where these are.
        measure: of this machine.

    Returns:
        None where no layer can be packed.
    """
    layers: dict[str, str] = {}

    def cost(sharing: Sequence[tuple[Native, int]]) -> BatchCost:
        return BatchCost([measure.of(*one)[0] for one in sharing for _ in range(one[0].num_directions)])

    def form_of(native: Native, direction: int, weights: Sequence[np.ndarray], outer: Emitter) -> Form | None:
        fastest = measure.of(native, weights[0].shape[2])[1]
        form = by_steps(native, direction, weights, outer) if fastest is by_steps else None
        layers[native.node.name] = "by_steps" if form else "native"
        return form or native_form(native, direction, weights, outer)  # the other may not know its activations

    plans = pack(model, folder, lambda sharing: cost(sharing).increment, form_of)
    if not plans:
        return None
    weights = sum(_nbytes(tensor) for tensor in model.graph.initializer)
    return Rewritten(model, tuple((plan, cost(plan.layers)) for plan in plans), weights, layers)


def _nbytes(tensor: onnx.TensorProto) -> int:
    itemsize = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    return int(np.prod(tensor.dims, dtype=np.int64)) * itemsize
