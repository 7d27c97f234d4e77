"""The models, and who can export them: one case a model, one function an exporter."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from support.checks import draw

from seqport.exporters import Input

# What a trace sees: no shape that the judge draws.
TRACED = (3, 7, 5)

# Rows of the tests without a recurrent layer: nothing there could be native.
_NOT_RECURRENT = {"packed-only"}

# Writes the file; called once.
Export = Callable[[Path], object]


@dataclass(frozen=True)
class Case:
    """One model.

    Attributes:
        name: of the row.
        inputs: as they are declared.
        expected: the model's own answers.
        exporters: name → a function that exports a model of its own, made from the same seed.
        vocabulary: ids are below it.
        sorted_rows: the model wants its rows sorted by length.
        shortest: the fewest steps of a row.
        least: as many native nodes as a faithful file has at least.
    """

    name: str
    inputs: tuple[Input, ...]
    expected: Callable[[Any], Sequence[np.ndarray]]
    exporters: dict[str, Export]
    vocabulary: int
    sorted_rows: bool = False
    shortest: int = 1
    least: int = 1


def of_pytorch() -> Iterator[Callable[[], Case]]:
    """Every PyTorch row, those too that seqport refuses; a case is made when it is its turn."""
    import torch
    from support import (
        torch_attention,
        torch_held,
        torch_lengths,
        torch_refused_loops,
        torch_rows,
        torch_structures,
        torch_until,
    )
    from support.torch_models import VOCABULARY
    from support.torch_rows import Row

    def case(row: Row) -> Case:
        def model() -> torch.nn.Module:
            torch.manual_seed(0)
            return row.make().eval()

        own = model()
        layers = [m for m in own.modules() if isinstance(m, torch.nn.RNNBase)]
        return Case(
            row.name,
            row.inputs,
            lambda arrays: row.answers(own, arrays),
            {
                "seqport": lambda path: _seqport(model(), path, row.nested or row.inputs),
                "torch.onnx": lambda path: _torch_onnx(model(), path, row, VOCABULARY, dynamo=True),
                "TorchScript": lambda path: _torch_onnx(model(), path, row, VOCABULARY, dynamo=False),
            },
            VOCABULARY,
            row.sorted_rows,
            row.shortest,
            max(1, sum(layer.num_layers for layer in layers)),
        )

    files = (torch_rows, torch_attention, torch_lengths, torch_structures)
    loops = {"held": torch_held.LOOPS, "until": torch_until.LOOPS, "refused": torch_refused_loops.LOOPS}
    more = [torch_rows.made(f"{kind}-{n.replace(' ', '-')}", *w) for kind, of in loops.items() for n, w in of.items()]
    rows = (row for file in files for row in file.rows() if row.name not in _NOT_RECURRENT)
    return (lambda row=row: case(row) for row in [*rows, *more])


def _seqport(model: Any, path: Path, inputs: Sequence[Any] | None, **more: Any) -> None:
    from seqport.exporters import export

    export(model, path, inputs, **more)


def _torch_onnx(model: Any, path: Path, row: Any, vocabulary: int, *, dynamo: bool) -> None:
    """As its documentation has it: example inputs, and a name for every dynamic axis."""
    import torch

    arrays = draw(row.inputs, TRACED, vocabulary=vocabulary, sorted_rows=row.sorted_rows, shortest=row.shortest)
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    axes = {item.name: dict(item.dynamic_axes) for item in row.inputs}
    shapes = axes if row.by_name else row.arguments(axes)
    first = next(iter(inspect.signature(model.forward).parameters.values()))
    if first.kind is inspect.Parameter.VAR_POSITIONAL:  # torch.export takes *args for one argument
        shapes = (shapes,)
    options: dict[str, Any] = {"dynamic_shapes": shapes}
    if not dynamo:
        options = {"dynamic_axes": axes}
    if row.by_name:
        options["kwargs"] = tensors
    arguments = () if row.by_name else row.arguments(tensors)
    with torch.no_grad():
        torch.onnx.export(
            model,
            arguments,
            str(path),
            input_names=list(axes),
            dynamo=dynamo,
            opset_version=18,
            verbose=False,
            **options,
        )


def of_keras() -> Iterator[Callable[[], Case]]:
    """Every Keras 3 row; of those that only vary the cell under a mask or lengths, the plain GRU's and LSTM's."""
    from support import keras_models, keras_rows

    varied = ("rnn", "rnn-relu", "gru-reset-before", "lstm-hard")
    passed = tuple(f"{kind}-{cell}" for kind in ("mask", "lengths") for cell in varied)
    rows = [row for row in [*keras_models.rows(), *keras_rows.rows()] if not row.name.startswith(passed)]
    return (lambda row=row: _keras_case(row, keras_models.VOCABULARY) for row in rows)


def _keras_case(row: Any, vocabulary: int) -> Case:
    import keras
    import tensorflow as tf

    from seqport.exporters.arrangement import Arrangement
    from seqport.exporters.frontends.keras.call import callers, flatten_outputs

    def model() -> keras.Model:
        keras.utils.set_random_seed(0)
        made = row.make()
        if made.built:
            random = np.random.default_rng(0)
            for weight in made.weights:  # zero biases would hide a bias in the wrong place
                if "float" in weight.dtype:
                    weight.assign(weight + 0.1 * random.standard_normal(weight.shape))
        return made

    own = model()
    call = callers(own, Arrangement(row.inputs))[0]

    def expected(arrays: Any) -> list[np.ndarray]:
        _, leaves = flatten_outputs(call([tf.constant(arrays[item.name]) for item in row.inputs]))
        return [np.asarray(leaf) for leaf in leaves]

    signature = [
        tf.TensorSpec([a if isinstance(a, int) else None for a in item.axes], item.dtype, name=item.name)
        for item in row.inputs
    ]
    return Case(
        row.name,
        row.inputs,
        expected,
        {
            "seqport": lambda path: _seqport(model(), path, None if row.declared else row.inputs),
            "tf2onnx": lambda path: _tf2onnx_keras(model(), path, signature),
            "Keras": lambda path: _keras_export(model(), path, signature),
        },
        vocabulary,
    )


def _keras_export(model: Any, path: Path, signature: Sequence[Any]) -> None:
    """A Functional model takes all of its inputs as one argument, a subclassed one an argument each."""
    several = list(signature)
    if getattr(model, "inputs", None) and len(several) > 1:
        several = [several]
    model.export(str(path), format="onnx", input_signature=several, opset_version=18, verbose=False)


def _tf2onnx_keras(model: Any, path: Path, signature: Sequence[Any]) -> None:
    import tf2onnx

    tf2onnx.convert.from_keras(model, input_signature=signature, opset=18, output_path=str(path))


def of_tf1() -> Iterator[Callable[[], Case]]:
    """Every frozen TF 1 graph, with either control flow."""
    import tf2onnx
    from support.tf1_frozen import FEATURES, NAMES, freeze, run_frozen

    def case(name: str) -> Case:
        frozen, inputs, outputs = freeze(name)

        def pb(path: Path) -> Path:
            target = path.with_suffix(".pb")
            target.write_bytes(frozen.SerializeToString())
            return target

        return Case(
            name,
            inputs,
            lambda arrays: run_frozen(frozen, outputs, arrays),
            {
                "seqport": lambda path: _seqport(pb(path), path, inputs, outputs=outputs),
                "tf2onnx": lambda path: tf2onnx.convert.from_graph_def(
                    frozen,
                    input_names=[f"{item.name}:0" for item in inputs],
                    output_names=[f"{output}:0" for output in outputs],
                    opset=18,
                    output_path=str(path),
                ),
            },
            FEATURES,
        )

    return (lambda name=name: case(name) for name in NAMES)


FRAMEWORKS: dict[str, Callable[[], Iterator[Callable[[], Case]]]] = {
    "pytorch": of_pytorch,
    "keras": of_keras,
    "tf1": of_tf1,
}
TITLES = {"pytorch": "PyTorch modules", "keras": "Keras 3 models", "tf1": "TF 1 graphs, frozen"}
EXPORTERS = {
    "pytorch": ("seqport", "torch.onnx", "TorchScript"),
    "keras": ("seqport", "tf2onnx", "Keras"),
    "tf1": ("seqport", "tf2onnx"),
}
