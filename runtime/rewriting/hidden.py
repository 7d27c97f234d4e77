"""Finds what a threshold hides: values that are others in chunks than in the whole sequence, where no draw tells.

`x / x.abs().amax(1).clamp(min=200)` divides by 200 in every draw, and by the peak of all steps wherever that is larger.

Needs: a model that passed the proof in chunks. Guarantees: whatever is made of several steps and goes into a threshold
is the same in chunks, or has been on both sides of it. Not looked at: what lengths are made from and, where masked
steps are refused, what masks alone decide.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator

import numpy as np
import onnx

from seqport.runtime.artifact import Description
from seqport.runtime.rewriting.counts import COMPARE
from seqport.runtime.rewriting.culprit import blamed
from seqport.runtime.rewriting.inner import Open, agree, values_in_parts, with_outputs
from seqport.runtime.rewriting.reading import Reading, attribute, is_recurrent
from seqport.runtime.rewriting.states import STREAM
from seqport.runtime.stream_draws import Draw, MaskOf, whole_row
from seqport.runtime.stream_model import StreamModel
from seqport.runtime.stream_signature import Chunk

# Operators that give the same for many values.
_CUTS = {"Clip", "Min", "Max", "Mod", "Relu", "Sign", "Floor", "Ceil", "Round", "HardSigmoid", "ThresholdedRelu"}
_THRESHOLDS = COMPARE | _CUTS | {"Shrink", "Cast"}
# Operators that make one value of several steps.
_MIXES = ("Reduce", "Arg", "CumSum", "TopK", "Slice", "Gather", "Split", "GlobalMaxPool", "GlobalAveragePool")
_WHOLE = frozenset({onnx.TensorProto.BOOL, onnx.TensorProto.INT32, onnx.TensorProto.INT64})
# Rows that are drawn, whose first half is louder, so that the second has another peak than the whole.
_ROWS, _LOUDER = 3, 4.0
# So many of its steps come one by one too.
_SINGLES = 8


def hidden(
    model: onnx.ModelProto,
    description: Description,
    opened: StreamModel,
    draw: Draw,
    mask_of: MaskOf | None,
    open_bytes: Open,
) -> str:
    """The layer that mixes steps, and the threshold that hides it, as a part of a sentence; empty where none does.

    Args:
        model: with its states open.
        description: names the recurrent layers.
        opened: the same model, opened.
        draw: what may come in.
        mask_of: which steps of a row the model masks, where it refuses such.
        open_bytes: opens a model.
    """
    reading = Reading(model)
    lengths = reading.in_front_of_lengths()
    stops = () if opened.signature.masked_steps_allowed else lengths
    known = _of_the_data(model, reading, opened.signature.sequence.inputs.keys(), stops)
    mixed: dict[str, list[onnx.NodeProto]] = {}  # the output of a threshold → the nodes in front of it
    for node in model.graph.node:
        if _is_threshold(node) and node.output[0] in known - lengths and (nodes := _mixed(node, reading, known)):
            mixed[node.output[0]] = nodes
    if not mixed:
        return ""
    names = [name for nodes in mixed.values() for node in nodes for name in node.output if name]
    names = list(dict.fromkeys([*names, *mixed]))
    traced = open_bytes(with_outputs(model, names))
    for seed in range(_ROWS):
        row, half = _row(opened, draw, mask_of, np.random.default_rng(seed)), draw.steps // 2
        (whole,) = values_in_parts(opened, traced, row, names, [(0, draw.steps)])
        parts = values_in_parts(opened, traced, row, names, [(0, half), (half, draw.steps)])
        ones = values_in_parts(opened, traced, row, names, [(at, at + 1) for at in range(min(draw.steps, _SINGLES))])
        others = {name for name in names if not agree(whole[name], [values[name] for values in parts])}
        for name in [name for name in mixed if name not in others]:
            node = reading.producers[name]
            crossed = len(np.unique(np.concatenate([each[name].reshape(-1) for each in (whole, *parts, *ones)]))) > 1
            if not crossed and _is_asked(node, others):
                first = next(item for item in mixed[name][::-1] if not others.isdisjoint(item.output))
                said = f"its {node.op_type} {node.name!r} hides that at every value that was drawn"
                return f"{blamed(first, reading, description)}; {said}"
    return ""


def _of_the_data(model: onnx.ModelProto, reading: Reading, timed: Iterable[str], stops: Container[str]) -> set[str]:
    """The values that elements of the sequence reach, but not through these."""
    known = set(timed)
    for node in model.graph.node:
        if not known.isdisjoint(reading.reads(node)):
            known.update(name for name in node.output if name and name not in stops)
    return known


def _is_threshold(node: onnx.NodeProto) -> bool:
    if node.name.startswith(STREAM):
        return False  # of the states that were opened
    if node.op_type == "Cast":
        return attribute(node, "to") in _WHOLE
    return node.op_type in _THRESHOLDS


def _mixed(threshold: onnx.NodeProto, reading: Reading, known: set[str]) -> list[onnx.NodeProto]:
    """The nodes in front of a threshold, up to recurrent layers, where one of them mixes steps; else none."""
    nodes = [node for node in _in_front(threshold, reading) if not known.isdisjoint(node.output)]
    return nodes if any(node.op_type.startswith(_MIXES) for node in nodes) else []


def _in_front(threshold: onnx.NodeProto, reading: Reading) -> Iterator[onnx.NodeProto]:
    seen: set[str] = set()
    waiting = list(reading.reads(threshold))
    while waiting:
        name = waiting.pop()
        node = reading.producers.get(name)
        if name in seen or node is None or is_recurrent(node):
            continue
        seen.add(name)
        yield node
        waiting += reading.reads(node)


def _is_asked(node: onnx.NodeProto, others: set[str]) -> bool:
    """Whether a threshold is given what is another value in chunks; two such beside each other are counts of steps."""
    given = others.intersection(node.input)
    return bool(given) and (node.op_type not in COMPARE or len(given) < len(node.input))


def _row(opened: StreamModel, draw: Draw, mask_of: MaskOf | None, random: np.random.Generator) -> Chunk:
    masked = opened.signature.masked_steps_allowed
    row = whole_row(opened.signature, draw, random, masked_steps=masked, mask_of=mask_of)
    arrays = dict(row.arrays)
    for name, slot in opened.signature.inputs.items():
        if slot.sequence is not None and arrays[name].dtype.kind == "f" and name not in opened.signature.zeros_and_ones:
            arrays[name] = arrays[name].copy()
            np.moveaxis(arrays[name], slot.row_steps, 0)[: draw.steps // 2] *= arrays[name].dtype.type(_LOUDER)
    louder = Chunk(arrays, row.steps)
    return row if mask_of is not None and mask_of(louder).any() else louder
