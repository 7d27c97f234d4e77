"""Loops that a trace left in the graph: lifted to neutral nodes, or refused.

Needs: a translated graph, and the refusals of layers that were met while it was traced and left as they are.
Guarantees: a loop that is a recurrent cell all the same (a cell of the user's own, an activation written another way)
is a neutral node, and no longer refused; every loop that stays is.
"""

from __future__ import annotations

import onnx_ir as ir

from seqport.exporters.errors import Refusal
from seqport.exporters.lift import LeftAlone, lift_model

_REMEDY = "write it with the framework's RNN, GRU or LSTM, or export the live Keras model"


def lift_loops(graph: ir.Model, refusals: list[Refusal]) -> list[str]:
    """Lift what can be lifted, let `refusals` say why the rest stays, and note what is computed otherwise."""
    if not refusals and not any(node.op_type in ("Loop", "Scan", "If", "MatMul", "Gemm") for node in graph.graph):
        return []
    double = _carries_double(graph)
    report = lift_model(graph, whole_length=True, narrow=True)
    left = report.left
    kept = [_explained(refusal, left) for refusal in refusals]
    named = [item for item in left if not any(_is_of(refusal, item) for refusal in refusals)]
    refusals[:] = [refusal for refusal in kept if refusal is not None]
    refusals += [Refusal(item.node, _stayed(item), _REMEDY) for item in named]
    return ["loops in float64 computed in float32"] if double and report.lifted else []


def _stayed(item: LeftAlone) -> str:
    kind = f"has {item.source}" if item.source == "unrolled steps" else f"is a {item.source}"
    return f"{kind} that stayed: {item.reason}"


def _carries_double(graph: ir.Model) -> bool:
    """Whether a loop's states, or what it steps over, are float64."""
    carried = (value for node in graph.graph if node.op_type in ("Loop", "Scan") for value in node.inputs)
    return any(value is not None and value.dtype == ir.DataType.DOUBLE for value in carried)


def _explained(refusal: Refusal, left: tuple[LeftAlone, ...]) -> Refusal | None:
    """The refusal with what stood in the way of lifting its loop; None where the loop was lifted."""
    for item in left:
        if _is_of(refusal, item):
            return Refusal(refusal.layer, f"{refusal.reason} ({item.reason})", refusal.remedy)
    return None


def _is_of(refusal: Refusal, item: LeftAlone) -> bool:
    """Whether a loop is the refused layer's: TensorFlow names it by the layers around it, each perhaps numbered."""
    name = refusal.layer.rpartition("/")[2]
    return any(part == name or part.rpartition("_")[0] == name for part in item.node.split("/"))
