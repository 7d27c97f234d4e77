"""The numbers of a model, in no framework's layout: float32 arrays under the notation's names."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from math import sqrt
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

import numpy as np

from seqport.models.errors import SpecError, WeightsError
from seqport.models.layouts import keras, pytorch
from seqport.models.part import Part
from seqport.models.spec import ModelSpec

T = TypeVar("T")

_SPEC = "spec"  # the metadata key that holds the specification's TOML


class Weights(Mapping[str, np.ndarray]):
    """A read-only mapping from names to float32 arrays, checked against the specification it belongs to.

    Names and shapes, with <layer> for <part>.layers.<n>.<forward|backward>:
    <part>.embedding [vocab_size, input_dim], <layer>.W_hx [num_hidden_units, in],
    <layer>.W_hh [num_hidden_units, num_hidden_units], <layer>.b_h [num_hidden_units],
    <part>.W_oh [out_dim, num_directions * num_hidden_units], <part>.b_o [out_dim].
    Where a cell has gates, each has its own W_hx, W_hh and b_h: W_hx_r, _z, _n of a "gru", W_hx_i, _f, _g, _o
    of an "lstm". A "gru" with the reset gate after the product also has <layer>.b_hh_n, inside the product.

    Attributes:
        spec: the specification.
        metadata: free text that travels in the file, such as a measured score.

    Raises:
        WeightsError: an array is missing, unknown, or of another shape or type.
    """

    def __init__(
        self, spec: ModelSpec, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None
    ) -> None:
        _check(arrays, _shapes(spec))
        self.spec = spec
        self.metadata = MappingProxyType(dict(metadata or {}))
        self._arrays = {name: _frozen(arrays[name]) for name in _shapes(spec)}

    def __getitem__(self, name: str) -> np.ndarray:
        return self._arrays[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    def __repr__(self) -> str:
        numbers = sum(array.size for array in self.values())
        return f"Weights({len(self)} arrays of {numbers} numbers, {self.spec})"

    @classmethod
    def random(cls, spec: ModelSpec, seed: int) -> Weights:
        """Seeded uniform numbers within ±1/sqrt(fan in), ±1 in embeddings; biases too, or they would hide."""
        rng = np.random.default_rng(seed)
        arrays = {}
        for name, shape in _shapes(spec).items():
            bound = 1.0 if name.endswith(".embedding") else 1 / sqrt(shape[-1])
            arrays[name] = rng.uniform(-bound, bound, shape).astype(np.float32)
        return cls(spec, arrays)

    def save(self, path: str | Path) -> None:
        """Write a safetensors file of the arrays, the specification and the metadata, always the same bytes."""
        from safetensors.numpy import save

        data = save(self._arrays, metadata={**self.metadata, _SPEC: self.spec.to_toml()})
        Path(path).write_bytes(_sorted_header(data))

    @classmethod
    def load(cls, path: str | Path, spec: ModelSpec | None = None) -> Weights:
        """Read what `save` wrote.

        Args:
            path: the safetensors file.
            spec: what the caller expects; None takes the file's own.

        Raises:
            WeightsError: the file is missing, damaged, without a specification, or made for another one.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="numpy") as file:
                metadata = dict(file.metadata() or {})
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        except (OSError, SafetensorError) as error:
            raise WeightsError(f"{path} cannot be read as a safetensors file: {error}") from error
        try:
            return cls(_agreed(metadata.pop(_SPEC, None), spec), arrays, metadata)
        except (SpecError, WeightsError) as error:
            raise WeightsError(f"{path}: {error}") from error

    def to_pytorch(self, part: Part) -> dict[str, np.ndarray]:
        """The state dict of the PyTorch module of `part`."""
        return pytorch.to_pytorch(part, self)

    @classmethod
    def from_pytorch(cls, spec: ModelSpec, states: Mapping[str, Mapping[str, np.ndarray]]) -> Weights:
        """Gather the state dicts of a model's modules, by part name: {"model": module.state_dict()}.

        A module's two biases become one, added in float64 and rounded once.

        Raises:
            WeightsError: a state dict is not of the module that `seqport.models.pytorch` builds.
        """
        arrays: dict[str, np.ndarray] = {}
        for part, state in _by_part(spec, states):
            state = {name: np.asarray(array) for name, array in state.items()}
            _check(state, _shapes_of(pytorch.to_pytorch(part, _template(part))))
            arrays |= pytorch.from_pytorch(part, state)
        return cls(spec, arrays)

    def to_keras(self, part: Part) -> dict[str, list[np.ndarray]]:
        """What `set_weights` takes, for each layer of the Keras model of `part`."""
        return keras.to_keras(part, self)

    @classmethod
    def from_keras(cls, spec: ModelSpec, layers: Mapping[str, Mapping[str, Sequence[np.ndarray]]]) -> Weights:
        """Gather what `get_weights` gives for each layer of a model's Keras models, by part name.

        The two biases of a GRU with reset_after become one, added in float64 and rounded once.

        Raises:
            WeightsError: the layers are not of the model that `seqport.models.keras` builds.
        """
        arrays: dict[str, np.ndarray] = {}
        for part, own in _by_part(spec, layers):
            _check(_flat(own), _shapes_of(_flat(keras.to_keras(part, _template(part)))))
            arrays |= keras.from_keras(part, own)
        return cls(spec, arrays)


def _agreed(text: str | None, spec: ModelSpec | None) -> ModelSpec:
    """The specification inside a file, which is the one expected where one is."""
    if text is None:
        raise WeightsError("the file holds no specification: write it with Weights.save")
    found = ModelSpec.from_toml(text)
    if spec is None or spec == found:
        return found
    expected = asdict(spec)
    differences = [
        f"{name} = {value!r}, expected {expected[name]!r}"
        for name, value in asdict(found).items()
        if value != expected[name]
    ]
    raise WeightsError(f"the file was made for another specification: {'; '.join(differences)}")


def _check(arrays: Mapping[str, np.ndarray], expected: Mapping[str, tuple[int, ...]]) -> None:
    if unknown := sorted(arrays.keys() - expected.keys()):
        raise WeightsError(f"unknown array {unknown[0]!r}: expected are {', '.join(expected)}")
    for name, shape in expected.items():
        wanted = f"expected float32 {list(shape)}"
        if name not in arrays:
            raise WeightsError(f"array {name!r} is missing: {wanted}")
        found = arrays[name]
        if found.shape != shape or found.dtype != np.float32:
            raise WeightsError(f"array {name!r} is {found.dtype} {list(found.shape)}: {wanted}")


def _by_part(spec: ModelSpec, given: Mapping[str, T]) -> Iterator[tuple[Part, T]]:
    for part in spec.parts():
        if part.name not in given:
            raise WeightsError(f"nothing is given for part {part.name!r}: given are {', '.join(given)}")
        yield part, given[part.name]


def _shapes(spec: ModelSpec) -> dict[str, tuple[int, ...]]:
    return {name: shape for part in spec.parts() for name, shape in part.weight_shapes().items()}


def _shapes_of(arrays: Mapping[str, np.ndarray]) -> dict[str, tuple[int, ...]]:
    return {name: array.shape for name, array in arrays.items()}


def _template(part: Part) -> dict[str, np.ndarray]:
    return {name: np.zeros(shape, np.float32) for name, shape in part.weight_shapes().items()}


def _flat(layers: Mapping[str, Sequence[np.ndarray]]) -> dict[str, np.ndarray]:
    return {f"{name}[{i}]": array for name, arrays in layers.items() for i, array in enumerate(arrays)}


def _sorted_header(data: bytes) -> bytes:
    """Sort the JSON header of a safetensors file: its size, 8 bytes, and the text, in whole 8 bytes.

    safetensors writes the metadata in a random order. https://github.com/huggingface/safetensors#format
    """
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.dumps(json.loads(data[8:end]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + data[end:]


def _frozen(array: np.ndarray) -> np.ndarray:
    copy = np.array(array, order="C")  # contiguous, because safetensors writes the memory as it lies
    copy.flags.writeable = False
    return copy
