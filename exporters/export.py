"""The one public call: a framework's model in, an ONNX artifact out."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from seqport.exporters.arrangement import Arrangement, Nested
from seqport.exporters.errors import ExportError, InputsError
from seqport.exporters.frontends.choose import Frontend, frontend_for, known_outputs, loaded
from seqport.exporters.frontends.patching import LOCK
from seqport.exporters.passes import PASSES
from seqport.exporters.passes.contract import check_contract
from seqport.exporters.passes.describe import declare_outputs, stamp
from seqport.exporters.passes.job import Job
from seqport.exporters.passes.opset import IR_VERSIONS
from seqport.exporters.passes.probe import probe
from seqport.exporters.passes.reduce import reduce_precision
from seqport.exporters.passes.roles_found import found_roles
from seqport.exporters.precision import Precision, precision_of
from seqport.exporters.signature import Input, check_inputs, check_outputs
from seqport.exporters.version import VERSION
from seqport.exporters.write import write
from seqport.runtime.artifact import Description


@dataclass(frozen=True)
class Artifact:
    """An exported model.

    Attributes:
        path: the ONNX file.
        description: what it says of itself; `seqport.runtime.read_description` reads the same from the file.
    """

    path: Path
    description: Description


class Settings(NamedTuple):
    """What an export was asked for beside the model."""

    opset: int
    strict: bool
    external_data: bool | None
    precision: Precision | None


def export(
    model: Any,
    path: str | os.PathLike[str],
    inputs: Iterable[Nested] | None = None,
    outputs: Sequence[str] | None = None,
    example: Mapping[str, Any] | None = None,
    *,
    strict: bool = True,
    opset: int = 18,
    external_data: bool | None = None,
    precision: str | Precision | None = None,
) -> Artifact:
    """Export a recurrent model to ONNX with native recurrent operators and its lengths.

    The artifact is compared with the model itself, at shapes that the trace never saw, before it is written.

    Args:
        model: an `nn.Module` whose forward takes the inputs in this order; a live Keras 3 or tf_keras model, or the
            path of its file; a `tf.function`, ConcreteFunction or `tf.Module`; the path of a SavedModel folder or of
            a frozen GraphDef (`.pb`).
        path: the ONNX file to write; an existing one is replaced only when the export has succeeded.
        inputs: name, axes and dtype of each input, in the order of the model's arguments; an argument that is a
            tuple or dict is given as a tuple or dict of Inputs. May be left out where the model knows them.
        outputs: new names in the model's order, or its own in any order; chosen from its structure where left out.
        example: arrays or tensors by input name, whose values the comparison draws from. Give it where
            random values make no sense to the model, such as ids above 1 that matter. Lengths are drawn beyond an
            example's as well.
        strict: False writes an artifact that breaks the contract, and records the breaks in it.
        opset: of the ONNX file, 17 to 22.
        external_data: whether the weights stand in `<path>.data`, beside the file; where left out, above 1.5 GB.
        precision: "float16", "bfloat16" or "int8-weights" store the weights so, and compute in float32; "int8-dynamic"
            computes in int8 too; a Precision also says what it may cost. Where left out, the model's own.

    Raises:
        InputsError: inputs, outputs, example or opset do not fit the model.
        ExportError: the model cannot be exported within the contract; says which layer, why, and what to do.
    """
    if isinstance(opset, bool) or not isinstance(opset, int) or opset not in IR_VERSIONS:
        raise InputsError(f"opset is {opset!r}: expected one of {', '.join(map(str, IR_VERSIONS))}")
    target = _target(Path(path))
    model = loaded(model)
    frontend = frontend_for(model)
    settings = Settings(opset, strict, external_data, precision_of(precision))
    failure: ExportError | None = None
    for candidate in frontend.known_inputs(model) if inputs is None else (inputs,):
        with LOCK:
            try:
                job = _job(frontend, model, Arrangement(candidate), outputs, settings)
                return _finished(job, example, target, settings)
            except ExportError as error:
                failure = failure or error
    assert failure is not None
    raise failure


def _job(
    frontend: Frontend, model: Any, arrangement: Arrangement, outputs: Sequence[str] | None, settings: Settings
) -> Job:
    """The captured model, lowered."""
    declared = check_inputs(arrangement.inputs)
    names = check_outputs(known_outputs(model) if outputs is None else outputs, declared)
    job = Job(frontend.trace(model, arrangement, names, settings.opset), settings.opset, settings.strict)
    for run in PASSES:
        run(job)
    return job


def _finished(job: Job, example: Mapping[str, Any] | None, target: Path, settings: Settings) -> Artifact:
    """The lowered model, proven, checked and written."""
    measured = probe(job, _example(example, job.capture.inputs))
    roles = found_roles(job, measured)
    if settings.precision is not None:
        measured = reduce_precision(job, measured, roles, settings.precision)
    declare_outputs(job, measured)
    stamp(job, measured, roles, VERSION)
    check_contract(job)
    assert job.description is not None
    return Artifact(write(job.model, target, settings.external_data), job.description)


def _example(example: Mapping[str, Any] | None, inputs: Sequence[Input]) -> dict[str, np.ndarray] | None:
    """The example as arrays.

    Raises:
        InputsError: a name is no input's, or an array has another number of axes.
    """
    if example is None:
        return None
    by_name = {item.name: item for item in inputs}
    arrays = {}
    for name, value in example.items():
        if name not in by_name:
            raise InputsError(f"example holds {name!r}, which is no input: expected some of {', '.join(by_name)}")
        array = np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)
        if array.ndim != len(by_name[name].axes):
            raise InputsError(f"example[{name!r}] has shape {array.shape}: expected the axes {by_name[name].axes}")
        arrays[name] = array
    return arrays


def _target(path: Path) -> Path:
    """Where the file goes.

    Raises:
        ExportError: there is no such folder, or the path is one.
    """
    if path.is_dir():
        raise ExportError(f"{path} is a folder: expected the path of the file to write, such as {path / 'model.onnx'}")
    if not path.parent.is_dir():
        raise ExportError(f"the folder {path.parent} does not exist: create it, or choose another path")
    return path
