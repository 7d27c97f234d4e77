"""Everything that can run a part of a model, behind one small protocol.

A framework is imported by the constructor of its own runner, so that one that is not installed costs only
its own rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np

from seqport.models import Part, Weights
from seqport.pipeline.build import artifact_path
from seqport.pipeline.errors import PipelineError

# The runner of an artifact to the framework that it was exported from.
ARTIFACTS = {"onnx-from-pytorch": "pytorch", "onnx-from-keras": "keras"}


class Runner(Protocol):
    """A part, loaded where it runs: a dict of named inputs in, a dict of named outputs out."""

    def __call__(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run one padded batch; inputs that the part does not take are ignored."""
        ...


def oracle_runner(part: Part, weights: Weights) -> Runner:
    """The equations in float64."""
    from seqport.models import oracle

    return partial(oracle.run, part, weights)


class PyTorchRunner:
    """The PyTorch module, on the CPU."""

    def __init__(self, part: Part, weights: Weights) -> None:
        import torch

        from seqport.models.pytorch import build

        self._torch, self._part = torch, part
        self._module = build(part, weights).eval()

    def __call__(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run one padded batch."""
        with self._torch.inference_mode():
            outputs = self._module(*(self._torch.from_numpy(inputs[name]) for name, _, _ in self._part.inputs))
        return {name: output.numpy() for name, output in zip(self._part.outputs, outputs, strict=True)}


class KerasRunner:
    """The Keras model as one graph with open axes, which is how TensorFlow serves it; on the CPU."""

    def __init__(self, part: Part, weights: Weights) -> None:
        import tensorflow as tf

        from seqport.models.keras import build

        model = build(part, weights)
        self._part = part
        self._device = tf.device("/CPU:0")
        signature = [
            tf.TensorSpec([axis if isinstance(axis, int) else None for axis in axes], dtype)
            for _, axes, dtype in part.inputs
        ]
        self._function = tf.function(lambda *values: model(list(values)), input_signature=signature, autograph=False)

    def __call__(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run one padded batch."""
        with self._device:
            outputs = self._function(*(inputs[name] for name, _, _ in self._part.inputs))
        return {name: outputs[name].numpy() for name in self._part.outputs}


class ArtifactRunner:
    """An artifact in a session of ONNX Runtime."""

    def __init__(self, path: Path, part: Part, provider: str = "cpu") -> None:
        from seqport.runtime import Session

        self._names = [name for name, _, _ in part.inputs]
        self.session = Session(path, provider)

    def __call__(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run one padded batch."""
        return self.session.run({name: inputs[name] for name in self._names})


# What needs no artifact.
MODELS: dict[str, Callable[[Part, Weights], Runner]] = {
    "oracle": oracle_runner,
    "pytorch": PyTorchRunner,
    "keras": KerasRunner,
}
NAMES = (*MODELS, *ARTIFACTS)


def open_runners(name: str, model: str, weights: Weights, folder: Path, *, provider: str = "cpu") -> dict[str, Runner]:
    """The runner of each part of a model, by the part's name.

    Args:
        name: one of `NAMES`.
        model: the name of the model in the zoo.
        weights: of the model.
        folder: where its artifacts are.
        provider: where an artifact runs; the others run on the CPU.

    Raises:
        PipelineError: there is no runner of this name.
        ArtifactError: an artifact is missing or damaged.
        ProviderError: the provider cannot run one.
    """
    parts = weights.spec.parts()
    if name in MODELS:
        return {part.name: MODELS[name](part, weights) for part in parts}
    if name not in ARTIFACTS:
        raise PipelineError(f"there is no runner {name!r}: expected one of {', '.join(NAMES)}")
    paths = {part: artifact_path(folder, model, part, ARTIFACTS[name]) for part in parts}
    return {part.name: ArtifactRunner(path, part, provider) for part, path in paths.items()}
