"""Layers with stateful=True: the state that Keras keeps between calls becomes inputs and outputs.

A file has no memory between calls, so each state of each stateful layer is one input `<layer>_h_0` (and
`<layer>_c_0`) and one output `<layer>_h_T` (`<layer>_c_T`) of the exported model; zeros there are a reset state.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import tensorflow as tf

from seqport.exporters.frontends.keras.library import is_a, layers_of
from seqport.exporters.signature import Input

_NAMES = ("h", "c")


class KeptStates:
    """The states that a model keeps between calls.

    Args:
        model: any model; most keep none. None where there is none to look into.
        batch_axis: name or size of the batch axis that the states share with the inputs.
    """

    def __init__(self, model: Any, batch_axis: str | int) -> None:
        found = layers_of(model) if model is not None else []
        self._around = {
            id(layer): outer.name
            for outer in found
            if outer is not model
            for layer in outer._flatten_layers(recursive=False, include_self=False)
        }
        self.layers = [layer for layer in found if is_a(layer, "RNN") and layer.stateful and _are_kept(layer)]
        self._batch_axis = batch_axis
        self._met: set[int] = set()
        self._given: dict[int, Any] = {}
        self.finals: dict[int, Any] = {}

    @property
    def inputs(self) -> list[Input]:
        """One input a state."""
        return [
            Input(f"{name}_0", (self._batch_axis, int(v.shape[1])), tf.as_dtype(v.dtype).name)
            for name, v in self._variables()
        ]

    @property
    def output_names(self) -> list[str]:
        """One output a state, in the order of the inputs."""
        return [f"{name}_T" for name, _ in self._variables()]

    @contextmanager
    def traced(self, values: Sequence[Any]) -> Iterator[None]:
        """Within this block the layers take these tensors as their states, and leave theirs in `finals`."""
        remaining = list(values)
        for layer in self.layers:
            count = len(tf.nest.flatten(layer.states))
            self._given[id(layer)], remaining = remaining[:count], remaining[count:]
        try:
            for layer in self.layers:
                layer.stateful = False
            yield
        finally:
            for layer in self.layers:
                layer.stateful = True

    def meet(self, layer: Any) -> None:
        """Remember that the model calls a layer, whether it can be captured or not."""
        self._met.add(id(layer))

    def leave_unmet(self) -> bool:
        """Leave out the layers that a trace did not meet: the model has them, and does not call them."""
        before = len(self.layers)
        self.layers = [layer for layer in self.layers if id(layer) in self._met]
        return len(self.layers) < before

    def initial(self, layer: Any, state: Any) -> Any:
        """The state that a layer starts from while it is traced."""
        given = self._given.get(id(layer))
        return state if given is None else tf.nest.pack_sequence_as(state, given)

    def keep(self, layer: Any, finals: Any) -> None:
        """Remember the state that a layer ends in."""
        if id(layer) in self._given:
            self.finals[id(layer)] = tf.nest.flatten(finals)

    def outputs(self) -> list[Any]:
        """The final states of all layers that the model called."""
        return [state for layer in self.layers if id(layer) in self._met for state in self.finals[id(layer)]]

    @contextmanager
    def run_from(self, values: Sequence[np.ndarray]) -> Iterator[list[np.ndarray]]:
        """Run the model from these states; the list holds its final ones afterwards, and the model its own again."""
        variables = [variable for _, variable in self._variables()]
        before = [variable.numpy() for variable in variables]
        finals: list[np.ndarray] = []
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
        try:
            yield finals
            finals.extend(variable.numpy() for variable in variables)
        finally:
            for variable, value in zip(variables, before, strict=True):
                variable.assign(value)

    def _variables(self) -> list[tuple[str, Any]]:
        found = []
        for layer, label in zip(self.layers, _labels(self.layers, self._around), strict=True):
            states = tf.nest.flatten(layer.states)
            single = len(states) <= len(_NAMES)
            found += [(f"{label}_{_NAMES[i] if single else i}", state) for i, state in enumerate(states)]
        return found


def _labels(layers: Sequence[Any], around: Mapping[int, str]) -> list[str]:
    """The layers' names; of those that share one, behind the name of the model around each, or with a number."""
    names = [layer.name for layer in layers]
    labels = [
        f"{around[id(layer)]}_{layer.name}" if names.count(layer.name) > 1 and id(layer) in around else layer.name
        for layer in layers
    ]
    return [f"{label}_{i}" if label in labels[:i] else label for i, label in enumerate(labels)]


def _are_kept(layer: Any) -> bool:
    """Whether the layer has made its states; tf_keras lists None for each until then."""
    states = tf.nest.flatten(layer.states)
    return bool(states) and all(state is not None for state in states)
