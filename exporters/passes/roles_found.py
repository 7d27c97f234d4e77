"""Which input is what: the rows' axis, the steps' axis, the lengths, the states; each found by running the artifact.

Needs: a measured artifact. Guarantees: what the description says of these, once for all of the runtime.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from seqport.exporters.passes.axes_found import Axes, found_axes
from seqport.exporters.passes.experiments import size_of, unmasked
from seqport.exporters.passes.fixed_steps import outputs_along
from seqport.exporters.passes.job import Job
from seqport.exporters.passes.layers_seen import Layers
from seqport.exporters.passes.lengths_found import Lengths, found_lengths
from seqport.exporters.passes.probe import Measured
from seqport.exporters.passes.states_found import Model, found_states
from seqport.runtime.artifact import StateInfo


@dataclass(frozen=True)
class Roles:
    """What was found.

    Attributes:
        axes: the axis of the rows, and that of the steps.
        lengths: the inputs that count the steps of an axis.
        states: the inputs that take what an output gave before.
        fixed_steps: lengths of an axis of fixed size → each output that has its steps, with their place.
    """

    axes: Axes = field(default_factory=Axes)
    lengths: Lengths = field(default_factory=Lengths)
    states: tuple[StateInfo, ...] = ()
    fixed_steps: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


def found_roles(job: Job, measured: Measured) -> Roles:
    """Find them, on the first probe's inputs."""
    inputs = job.capture.inputs
    layers = Layers(job.model)
    probed, padding = measured.runs[0].inputs, job.capture.padding_values
    whole: Mapping[str, np.ndarray] = unmasked(probed, inputs, job.zeros_and_ones, padding)
    lengths = found_lengths(layers, inputs, whole)
    full = {
        name: np.full_like(probed[name], axis if isinstance(axis, int) else size_of(probed, inputs, axis))
        for name, axis in lengths.axes.items()
    }
    whole = {**whole, **full}
    axes = found_axes(layers, measured.session, inputs, measured.outputs, whole, lengths.axes)
    masked = any(layers.takes_lengths(node) and node.name not in lengths.nodes for node in layers.nodes)
    states = found_states(
        Model(
            graph=job.model.graph,
            layers=layers,
            session=measured.session,
            inputs=inputs,
            outputs=measured.outputs,
            arrays=whole if masked else {**probed, **full},
            steps=axes.steps,
            lengths=tuple(lengths.axes),
        )
    )
    fixed_steps = {
        name: outputs_along(measured.session, inputs, measured.outputs, whole, name, axis)
        for name, axis in lengths.axes.items()
        if isinstance(axis, int)
    }
    return Roles(axes, lengths, states, fixed_steps)
