"""What any ONNX file does with its sequences: its recurrent nodes, its loops, and what keeps either from being fast.

Nothing is run and nothing is changed; the file may come from any exporter.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import onnx_ir as ir

from seqport.exporters.digest import weights_sha256
from seqport.exporters.errors import ExportError, Refusal
from seqport.exporters.passes.builder import constant
from seqport.exporters.passes.roles import QUANTISED_LSTM, SEQUENCE_LENS, lengths_source, native_nodes
from seqport.exporters.signature import DTYPES, Input
from seqport.runtime.artifact import METADATA_KEY, Description, RecurrentInfo, TensorInfo, read_metadata
from seqport.runtime.cudnn import beyond_cudnn
from seqport.runtime.external import data_files, require_data_files

_LOOPS = ("Loop", "Scan")


@dataclass(frozen=True)
class Findings:
    """What was found.

    Attributes:
        inputs: the graph's inputs.
        outputs: the graph's outputs.
        recurrent: the native recurrent nodes.
        breaks: breaks of the contract, each with its remedy.
        cuda: what ONNX Runtime's CUDA provider would leave to the CPU, node by node, and why.
        opset: of the standard domain.
        description: what the file says of itself, where seqport made it.
        beside: name and size in bytes of the files beside it that hold its weights.
    """

    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    recurrent: tuple[RecurrentInfo, ...]
    breaks: tuple[Refusal, ...]
    cuda: tuple[Refusal, ...]
    opset: int
    description: Description | None
    beside: dict[str, int] = field(default_factory=dict)


def examine(path: str | Path) -> Findings:
    """Examine an ONNX file.

    Raises:
        NotOnnxError: there is no such file, or it is no ONNX model.
        ArtifactError: its weights beside it are not all there.
        ExportError: the model cannot be read.
    """
    path = Path(path)
    metadata = read_metadata(path)
    require_data_files(path)
    try:
        model = ir.load(path)
    except Exception as error:
        raise ExportError(f"{path} cannot be read as an ONNX model: {error}") from error
    description = Description.from_json(metadata[METADATA_KEY]) if METADATA_KEY in metadata else None
    inputs = tuple(map(_tensor, model.graph.inputs))
    nodes = native_nodes(model)
    return Findings(
        inputs=inputs,
        outputs=tuple(map(_tensor, model.graph.outputs)),
        recurrent=tuple(_recurrent(node, inputs) for node in nodes),
        breaks=(*_breaks(model, nodes, inputs), *_changed(model, description)),
        cuda=tuple(_left_to_the_cpu(nodes)),
        opset=model.opset_imports.get("", 0),
        description=description,
        beside={str(place): place.stat().st_size for place in data_files(path)},
    )


def _tensor(value: ir.Value) -> TensorInfo:
    shape = () if value.shape is None else value.shape
    axes = tuple(d if isinstance(d, int) else (d.value or "?") for d in shape)
    return TensorInfo(value.name or "", "unknown" if value.dtype is None else value.dtype.numpy().name, axes)


def _recurrent(node: ir.Node, inputs: tuple[TensorInfo, ...]) -> RecurrentInfo:
    declared = [Input(i.name, tuple(a or 1 for a in i.axes), i.dtype) for i in inputs if i.dtype in DTYPES]
    return RecurrentInfo(
        node=node.name or "",
        op=node.op_type,
        layer=(node.name or node.op_type).rsplit("/", 1)[0],
        direction=node.attributes.get_string("direction", "forward"),
        num_hidden_units=node.attributes.get_int("hidden_size", 0),
        lengths=lengths_source(node, declared),
        padded_outputs="zero",
    )


def _breaks(model: ir.Model, nodes: list[ir.Node], inputs: tuple[TensorInfo, ...]) -> list[Refusal]:
    found = [
        Refusal(
            node.name or node.op_type,
            f"is a {node.op_type}, which runs step by step, many times slower than a native node",
            "lift it with `seqport lift`, or export the model with seqport",
        )
        for node in model.graph.all_nodes()
        if node.op_type in _LOOPS
    ]
    found += [
        Refusal(
            node.name or node.op_type,
            f"has an initial state of the fixed batch size {array.shape[1]}",
            "export the model with seqport, which keeps it dynamic",
        )
        for node in nodes
        for state in node.inputs[5:7]
        if (array := constant(state)) is not None
    ]
    if nodes and not any(isinstance(axis, str) for item in inputs for axis in item.axes):
        found.append(
            Refusal("the inputs", "have no dynamic axis", "export with named axes: the file takes one shape only")
        )
    if any(_has_lengths(node) for node in nodes):
        found += [
            Refusal(
                node.name or node.op_type,
                "has no sequence_lens, while other recurrent nodes of the file have: padding is read as data there",
                "pass lengths or the mask to that layer too",
            )
            for node in nodes
            if not _has_lengths(node)
        ]
    return found


def _changed(model: ir.Model, description: Description | None) -> list[Refusal]:
    """Weights that are no longer those that the description was written for."""
    said = description.weights_sha256 if description is not None else ""
    found = weights_sha256(model) if said else ""
    if found == said:
        return []
    reason = f"have the sha256 {found[:12]}…, and the file's own description says {said[:12]}…"
    return [Refusal("the weights", reason, "they were changed or damaged after the export: export the model again")]


def _has_lengths(node: ir.Node) -> bool:
    return len(node.inputs) > SEQUENCE_LENS and node.inputs[SEQUENCE_LENS] is not None


def _left_to_the_cpu(nodes: list[ir.Node]) -> list[Refusal]:
    remedy = "Session(provider='cuda') rewrites it to stay on the GPU, provider='cpu' runs it as it is"
    return [
        Refusal(
            node.name or node.op_type,
            f"has {reason}, which cuDNN does not",
            "run it on the CPU" if node.op_type == QUANTISED_LSTM else remedy,
        )
        for node in nodes
        for reason in _beyond_cudnn(node)
    ]


def _beyond_cudnn(node: ir.Node) -> list[str]:
    attributes = {name: value.value for name, value in node.attributes.items()}
    return beyond_cudnn(node.op_type, attributes, [None if value is None else value.name for value in node.inputs])
