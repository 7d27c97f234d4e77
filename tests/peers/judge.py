"""One exported file against the model that it came from, whoever exported it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from support.checks import NATIVE, SHAPES, draw

from seqport.exporters import Input

# Relative to each value where that is above 1: float32 runtimes differ by rounding, faults by far more.
TOLERANCE = 1e-4
LOOPS = {"Loop", "Scan"}

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Verdict:
    """What one exporter made of one model.

    Attributes:
        case: the model's name.
        exporter: who exported it.
        seconds: of processor time that the export took; what else the machine does counts little in them.
        error: why there is no file, or none that loads; empty where there is one.
        parity: the model's own answers at every shape.
        native: recurrent nodes, and no loop.
        dynamic: every axis that was declared dynamic is.
        nodes: in the file, those inside loops and functions counted too.
        why: what is wrong with the answers, where they differ.
    """

    case: str
    exporter: str
    seconds: float = 0.0
    error: str = ""
    parity: bool = False
    native: bool = False
    dynamic: bool = False
    nodes: int = 0
    why: str = ""

    @property
    def all_three(self) -> bool:
        """Parity, native nodes, dynamic axes."""
        return self.parity and self.native and self.dynamic


def judge(
    path: Path,
    inputs: Sequence[Input],
    expected: Callable[[Arrays], Sequence[np.ndarray]],
    *,
    vocabulary: int,
    sorted_rows: bool,
    shortest: int,
    least: int,
) -> dict[str, object]:
    """The fields of a verdict that the file decides.

    Args:
        path: the file.
        inputs: as they were declared; the file's are taken by name, or else in their order.
        expected: the model's own answers.
        vocabulary: ids are below it.
        sorted_rows: the model wants its rows sorted by length.
        shortest: the fewest steps of a row.
        least: as many native nodes as the model has recurrent layers, or fewer where layers are shared.
    """
    model = onnx.load(path)
    graph, kinds = model.graph, [node.op_type for node in _nodes(model.graph, model.functions)]
    names = _matched([value.name for value in graph.input], inputs)
    found: dict[str, object] = {
        "native": sum(kind in NATIVE for kind in kinds) >= least and not LOOPS & set(kinds),
        "dynamic": names is not None and _is_dynamic(graph, inputs, names),
        "nodes": len(kinds),
    }
    if names is None:
        return {**found, "why": f"takes {[value.name for value in graph.input]}"}
    batches = [draw(inputs, s, vocabulary=vocabulary, sorted_rows=sorted_rows, shortest=shortest) for s in SHAPES]
    why = _difference(path, batches, names, expected)
    return {**found, "parity": not why, "why": why}


def _nodes(graph: onnx.GraphProto, functions: Sequence[onnx.FunctionProto]) -> Iterator[onnx.NodeProto]:
    """Every node, those of subgraphs and called functions too."""
    by_name = {function.name: function for function in functions}
    todo = list(graph.node)
    while todo:
        node = todo.pop()
        if node.op_type in by_name and node.domain == by_name[node.op_type].domain:
            todo.extend(by_name[node.op_type].node)
            continue
        yield node
        for attribute in node.attribute:
            todo.extend(attribute.g.node)
            for inner in attribute.graphs:
                todo.extend(inner.node)


def _matched(found: Sequence[str], inputs: Sequence[Input]) -> dict[str, str] | None:
    """Declared name → the file's; None where it takes another number of inputs."""
    declared = [item.name for item in inputs]
    plain = {name.removesuffix(":0"): name for name in found}
    if set(declared) <= set(plain):
        return {name: plain[name] for name in declared}
    return dict(zip(declared, found, strict=True)) if len(found) == len(declared) else None


def _is_dynamic(graph: onnx.GraphProto, inputs: Sequence[Input], names: Mapping[str, str]) -> bool:
    by_name = {value.name: value for value in graph.input}
    for item in inputs:
        dims = by_name[names[item.name]].type.tensor_type.shape.dim
        if len(dims) != len(item.axes) or any(dims[position].HasField("dim_value") for position in item.dynamic_axes):
            return False
    return True


def _difference(
    path: Path, batches: Sequence[Arrays], names: Mapping[str, str], expected: Callable[[Arrays], Sequence[np.ndarray]]
) -> str:
    """The first difference at any shape, in words; empty where there is none."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    for shape, arrays in zip(SHAPES, batches, strict=True):
        wanted = expected(arrays)
        where = f"at {' × '.join(map(str, shape[:2]))}"
        try:
            got = session.run(None, {names[name]: array for name, array in arrays.items()})
        except Exception as error:
            return f"{where} it does not run: {str(error).strip().splitlines()[0]}"
        if len(got) != len(wanted):
            return f"{len(got)} outputs for {len(wanted)}"
        for index, (one, other) in enumerate(zip(got, wanted, strict=True)):
            if (gap := _gap(np.asarray(one), other)) > TOLERANCE:
                return f"{where} output {index} differs by {gap:.2g}"
    return ""


def _gap(one: np.ndarray, other: np.ndarray) -> float:
    """The largest difference, relative to each value where that is above 1; infinite for another shape."""
    if one.shape != other.shape:
        return float("inf")
    one, other = one.astype(np.float64), other.astype(np.float64)
    same = (one == other) | (np.isnan(one) & np.isnan(other))
    gap = np.where(same, 0.0, np.abs(one - other) / np.maximum(1.0, np.abs(other)))
    return float(np.nan_to_num(gap, nan=np.inf).max(initial=0.0))
