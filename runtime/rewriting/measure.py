"""Measures on this machine what the steps and the pieces of a recurrent layer cost, on small graphs of its sizes.

Costs depend on the cell, its sizes and the threads alone, so each is measured once a process. Every value is the least
of several runs, since whatever else the machine does only adds to it, and all are taken in rounds: a machine that was
busy in one of them is found out by the next.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

from seqport.runtime.layer_costs import ROWS, LayerCost
from seqport.runtime.rewriting.by_steps import by_steps
from seqport.runtime.rewriting.candidates import FormOf
from seqport.runtime.rewriting.forms import native_form
from seqport.runtime.rewriting.native import GATES, Native
from seqport.runtime.rewriting.packing import pack

# One run of a measurement has about so many multiplications, and at most so many steps.
_WORK, _STEPS = 1e8, 16
# In a round, runs of one kind are repeated for so many seconds, long ones twice.
_SECONDS = 0.002
# Rounds go on until one of them lowers nothing by more than this share, or time is over: layers whose runs are long
# are measured in two, over more time than a disturbance lasts.
_ROUNDS, _LOWER, _PATIENCE = 4, 0.03, 0.25
# By steps, answers differ in their last bits: only for a gain beyond what two measurements differ by.
_GAIN = 0.9
# Rows of 1, 2, … steps: as many pieces as rows where every end is a cut, and one where none is.
_STAIRS = 16
_EVERY, _NONE = 1e-6, 1e9
# The same rows, padded to so many steps: what each step of the padded batch costs that nothing is computed for.
_LONG = 128
_LEAST = 1e-7  # seconds; a difference of two measurements may come out below 0

Run = Callable[[dict[str, np.ndarray]], object]
# A model's bytes → what runs it
Open = Callable[[bytes], Run]


class Measure:
    """Costs of layers, each measured once.

    Args:
        open_model: opens a model with the threads that it will have.
    """

    def __init__(self, open_model: Open) -> None:
        self._open = open_model
        self._found: dict[tuple[Any, ...], tuple[LayerCost, FormOf]] = {}

    def of(self, native: Native, input_dim: int) -> tuple[LayerCost, FormOf]:
        """What one direction of a layer costs, and the form that is the cheapest for several rows."""
        reset = int(native.attributes.get("linear_before_reset", 0))
        key = (native.cell, input_dim, native.hidden, reset)
        if key not in self._found:
            self._found[key] = self._measured(*key)
        return self._found[key]

    def _measured(self, cell: str, input_dim: int, hidden: int, reset: int) -> tuple[LayerCost, FormOf]:
        model = _layer(cell, input_dim, hidden, reset)
        work = 2 * GATES[cell] * hidden * (hidden + input_dim) * ROWS[-1]
        steps = max(2, min(_STEPS, int(_WORK / work)))
        run = self._open(model.SerializeToString())
        forms = (native_form,) if cell == "LSTM" else (native_form, by_steps)
        packed = [self._packed(model, form, steps, input_dim) for form in forms]
        probes = [_Probe(run, _batch([1], input_dim))]  # what a run costs however little it computes
        probes += [_Probe(run, _batch([steps] * rows, input_dim)) for rows in ROWS]
        _settle([*probes, *(probe for several in packed for probe in several)])
        alone, *whole = (probe.seconds for probe in probes)
        padded = tuple(max(seconds - alone, _LEAST) / steps for seconds in whole)
        costs = [(_cost(several, steps), form) for several, form in zip(packed, forms, strict=True)]
        cost, form = costs[0]
        if costs[-1][0].row < _GAIN * cost.row:
            cost, form = costs[-1]
        return replace(cost, padded=padded, call=max(cost.call - alone, _LEAST)), form

    def _packed(self, model: ModelProto, form: FormOf, steps: int, input_dim: int) -> list[_Probe]:
        """One row of one step, full rows, stairs without and with cuts, and stairs in a long batch."""
        packed = ModelProto()
        packed.CopyFrom(model)
        pack(packed, Path(), lambda _: "increment", form)
        run = self._open(packed.SerializeToString())
        stairs = list(range(1, _STAIRS + 1))
        return [
            _Probe(run, {**_batch(lengths, input_dim, padded), "increment": np.array(increment, np.float32)})
            for lengths, padded, increment in (
                ([1], 0, _NONE),
                ([steps] * ROWS[-1], 0, _NONE),
                (stairs, 0, _NONE),
                (stairs, 0, _EVERY),
                (stairs, _LONG, _NONE),
            )
        ]


def _cost(probes: Sequence[_Probe], steps: int) -> LayerCost:
    """What follows from the runs of a packed layer, but for what those of the padded one say."""
    call, full, one, many, long = (probe.seconds for probe in probes)
    row = max((full - call) / (steps * ROWS[-1]), 1e-12)
    step = max((one - call) / _STAIRS - row * _STAIRS, 0.0)
    saved = row * (_STAIRS * _STAIRS - _STAIRS * (_STAIRS + 1) / 2)
    piece = max((many - one + saved) / (_STAIRS - 1), call / _STAIRS)  # where noise hides it
    cell = max((long - one) / (_STAIRS * (_LONG - _STAIRS)), 0.0)
    return LayerCost((), call, step, row, piece, cell)


class _Probe:
    """A run that is measured: what it takes, and the seconds of the fastest one so far."""

    def __init__(self, run: Run, feed: dict[str, np.ndarray]) -> None:
        self._run, self.feed = run, feed
        self.seconds = math.inf
        run(feed)  # the first one allocates

    def again(self) -> bool:
        """Run some more; whether that was much faster."""
        before = self.seconds
        taken: list[float] = []
        while len(taken) < 2 or sum(taken) < _SECONDS:
            started = perf_counter()
            self._run(self.feed)
            taken.append(perf_counter() - started)
        self.seconds = min(before, *taken)
        return self.seconds < (1 - _LOWER) * before


def _settle(probes: Sequence[_Probe]) -> None:
    started, rounds, lower = perf_counter(), 0, True
    while (rounds < _ROUNDS or lower) and (rounds < 2 or perf_counter() - started < _PATIENCE):
        lowered = [probe.again() for probe in probes]
        lower = any(lowered)
        rounds += 1


def _batch(lengths: list[int], input_dim: int, steps: int = 0) -> dict[str, np.ndarray]:
    """Rows of these lengths, padded to the longest or to more steps."""
    shape = (steps or max(lengths), len(lengths), input_dim)
    x = np.random.default_rng(0).standard_normal(shape, np.float32)
    return {"x": x, "lengths": np.array(lengths, np.int32)}


def _layer(cell: str, input_dim: int, hidden: int, reset: int) -> ModelProto:
    """A model of one layer, with random weights."""
    random = np.random.default_rng(0)
    gates = GATES[cell]
    shapes = {"W": (1, gates * hidden, input_dim), "R": (1, gates * hidden, hidden), "B": (1, 2 * gates * hidden)}
    weights = [
        numpy_helper.from_array(random.standard_normal(shape, np.float32) / np.float32(hidden**0.5), name)
        for name, shape in shapes.items()
    ]
    node = helper.make_node(cell, ["x", "W", "R", "B", "lengths"], ["Y"], name="layer", hidden_size=hidden)
    if cell == "GRU":
        node.attribute.append(helper.make_attribute("linear_before_reset", reset))
    inputs = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, ["T", "B", input_dim]),
        helper.make_tensor_value_info("lengths", TensorProto.INT32, ["B"]),
    ]
    outputs = [helper.make_tensor_value_info("Y", TensorProto.FLOAT, ["T", 1, "B", hidden])]
    graph = helper.make_graph([node], "layer", inputs, outputs, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
