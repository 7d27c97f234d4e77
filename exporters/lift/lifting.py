"""The public call: recurrent cells out of Loop, Scan and unrolled steps of any ONNX file, into native nodes."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import onnx_ir as ir
from onnx import version_converter
from onnx_ir.passes import common

from seqport.exporters.digest import weights_sha256
from seqport.exporters.lift.cuts import cuts_of
from seqport.exporters.lift.emit import emit
from seqport.exporters.lift.errors import LiftError, NotLiftedError
from seqport.exporters.lift.lower import lower
from seqport.exporters.lift.neutral import infer_shapes
from seqport.exporters.lift.plan import Plan, make_plan
from seqport.exporters.lift.proof import prove
from seqport.exporters.lift.reading import read_steps
from seqport.exporters.lift.report import LeftAlone, Lifted, Report
from seqport.exporters.lift.reversal import fold_reversals
from seqport.exporters.lift.unrolled import lift_unrolled, steps_in_branches
from seqport.exporters.lift.walk import Facts, body_of, name_apart
from seqport.exporters.recurrent import DOMAIN, VERSION
from seqport.exporters.serial import through_onnx
from seqport.exporters.write import write
from seqport.runtime.artifact import METADATA_KEY, Description

_LOOPS = ("Loop", "Scan")
# The lowering writes operators as this opset has them.
_OLDEST, _CONVERTED = 17, 18


def lift(source: str | os.PathLike[str], target: str | os.PathLike[str]) -> Report:
    """Replace recurrent loops of an ONNX file by native RNN, GRU and LSTM nodes, with lengths where a test gates them.

    Each replacement is run beside its loop, on random input at several shapes, lengths and masks, before it is
    kept. What is not lifted stays as it is.

    Args:
        source: an ONNX file, whoever made it.
        target: the file to write, also where nothing was lifted; may be the source. Weights above 2 GB are written
            to a file beside it.

    Returns:
        What was lifted, and what was left alone and why.

    Raises:
        LiftError: the source cannot be read, or the target not be written.
    """
    model = _read(Path(source))
    report = lift_model(model)
    lower(model)
    _restamp(model)
    _write(model, Path(target))
    return report


def lift_model(model: ir.Model, *, whole_length: bool = False, narrow: bool = False) -> Report:
    """The same in memory: loops become neutral recurrent nodes, which the passes of an export lower.

    Args:
        model: edited in place; its opset must be 17 or later.
        whole_length: outputs of a loop that stops at the longest length have zeros after it, up to the input's own
            length. That is what TensorFlow's loops give, and what tf2onnx cuts off.
        narrow: a loop in float64 becomes a layer in float32, for ONNX Runtime has no other; else it is left alone.

    Raises:
        LiftError: the opset is older.
    """
    opset = model.opset_imports.get("", 0)
    if opset < _OLDEST:
        raise LiftError(f"the model has opset {opset}: convert it to {_OLDEST} or later first")
    name_apart(model.graph)
    lifted: list[Lifted] = []
    left: list[LeftAlone] = []
    for node in [node for node in model.graph if node.op_type in _LOOPS and node.domain == ""]:
        name = _layer_name(node)
        try:
            lifted.extend(_lift_one(model, node, name, whole_length, narrow))
        except NotLiftedError as error:
            left.append(LeftAlone(name, node.op_type, str(error)))
        except Exception as error:  # a loop of a kind never seen must not keep the others from being lifted
            left.append(LeftAlone(name, node.op_type, f"it cannot be read: {type(error).__name__}: {_cause(error)}"))
    for node in model.graph.all_nodes():
        if node.op_type in _LOOPS and node.graph is not model.graph:
            left.append(
                LeftAlone(node.name or node.op_type, node.op_type, "it stands inside of another loop or branch")
            )
    left += steps_in_branches(model.graph)
    more, stayed = lift_unrolled(model)
    backward = fold_reversals(model)
    lifted = [replace(item, direction="reverse") if item.layer in backward else item for item in (*lifted, *more)]
    return Report(tuple(lifted), (*left, *stayed))


def _lift_one(model: ir.Model, node: ir.Node, name: str, whole_length: bool, narrow: bool) -> list[Lifted]:
    plan = make_plan(read_steps(node, Facts(model)), whole_length=whole_length, narrow=narrow)
    wanted = _read_after(plan)
    if not wanted:
        raise NotLiftedError("nothing reads it")
    key = node.outputs[0].name

    def rewrite(part: ir.Model) -> None:
        same = next(item for item in part.graph if item.outputs[0].name == key)
        emit(make_plan(read_steps(same, Facts(part)), whole_length=whole_length, narrow=narrow), name)

    difference = prove(model, cuts_of(plan), wanted, rewrite, padded=plan.padded)
    lifted = emit(plan, name)
    model.opset_imports[DOMAIN] = VERSION
    common.RemoveUnusedNodesPass()(model)
    infer_shapes(model)
    return [replace(item, difference=difference) for item in lifted]


def _read_after(plan: Plan) -> list[str]:
    """Names of the loop's outputs that somebody reads."""
    states = [carried.state.whole or carried.state for carried in plan.carried]
    values = list(dict.fromkeys([item.outer for item in plan.steps.emitted] + [state.final for state in states]))
    return [value.name or "" for value in values if value.uses() or value.is_graph_output()]


def _layer_name(node: ir.Node) -> str:
    """The user's name of the layer: the loop's, or what the names of its body's nodes begin with."""
    name = node.name or ""
    if name and not name.startswith("custom_rnn_scan"):  # tf2onnx's own name for every Scan
        return name.removesuffix("_loop")
    scopes = [inner.name.split("/")[:-1] for inner in body_of(node) if inner.name and inner.op_type == "MatMul"]
    shared: list[str] = []
    for parts in zip(*scopes, strict=False):
        if len(set(parts)) > 1:
            break
        shared.append(parts[0])
    return "/".join(part for part in shared if part != "while") or name or node.op_type


def _read(path: Path) -> ir.Model:
    try:
        model = ir.load(path)
    except Exception as error:
        raise LiftError(f"cannot read {path}: {_cause(error)}") from error
    if model.opset_imports.get("", 0) >= _OLDEST:
        return model
    try:
        return through_onnx(model, lambda proto: version_converter.convert_version(proto, _CONVERTED))
    except Exception as error:
        raise LiftError(
            f"{path} has opset {model.opset_imports.get('', 0)} "
            f"and cannot be converted to {_CONVERTED}: {_cause(error)}"
        ) from error


def _cause(error: BaseException) -> str:
    """The first line of what went wrong first."""
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error).strip().split("\n")[0] or type(error).__name__


def _restamp(model: ir.Model) -> None:
    """A description of an earlier export names the weights that are there now."""
    if METADATA_KEY in model.metadata_props:
        description = Description.from_json(model.metadata_props[METADATA_KEY])
        stamped = replace(description, weights_sha256=weights_sha256(model))
        model.metadata_props[METADATA_KEY] = stamped.to_json()


def _write(model: ir.Model, path: Path) -> None:
    if not path.parent.is_dir():
        raise LiftError(f"the folder {path.parent} does not exist: create it, or choose another path")
    write(model, path)
