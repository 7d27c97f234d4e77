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

# One run of a measurement has about so many multiplications, and that many steps at most and at least.
_WORK, _STEPS, _FEWEST = 1e8, 64, 4
# In a round, runs of one kind are repeated for so many seconds, long ones twice.
_SECONDS = 0.002
# Rounds go on until one of them lowers nothing by more than this share, or time is over: layers whose runs are long
# are measured in two, over more time than a disturbance lasts.
_ROUNDS, _LOWER, _PATIENCE = 4, 0.03, 0.6
# By steps, answers differ in their last bits: only for a gain beyond what two measurements differ by.
_GAIN = 0.9
# At so many rows each: a batch has fewer and fewer of them.
_COMPARED = (16, 64)
# Rows of 1, 2, … steps: as many pieces as rows where every end is a cut, and one where none is.
_STAIRS = 16
_EVERY, _NONE = 1e-6, 1e9
# The same rows, padded to so many steps: what each step of the padded batch costs that nothing is computed for.
_LONG = 128
_FEW = 1  # which of ROWS
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
        steps = max(_FEWEST, min(_STEPS, int(_WORK / work)))
        run = self._open(model.SerializeToString())
        full = [_Slope(run, rows, steps, input_dim) for rows in ROWS]
        ragged = [_Probe(run, _batch([steps] + [1] * (rows - 1), input_dim)) for rows in ROWS]
        forms = (native_form,) if cell == "LSTM" else (native_form, by_steps)
        packed = [_Packed(self._open(_packed(model, form)), steps, input_dim) for form in forms]
        _settle([*ragged, *(probe for one in (*full, *packed) for probe in one.probes)])
        costs = [(one.cost(), form) for one, form in zip(packed, forms, strict=True)]
        cost, form = costs[0]
        if all(costs[-1][0].of_a_step(rows) < _GAIN * cost.of_a_step(rows) for rows in _COMPARED):
            cost, form = costs[-1]
        padded = tuple(one.step for one in full)
        # The first step of the ragged batch is one of all rows.
        saved = [(one.probes[0].seconds - less.seconds) / (steps - 1) for one, less in zip(full, ragged, strict=True)]
        ended = tuple(max(step - less, 0.0) for step, less in zip(padded, saved, strict=True))
        call = max(cost.call - full[_FEW].once, _LEAST)
        return replace(cost, padded=padded, ended=ended, call=call), form


def _packed(model: ModelProto, form: FormOf) -> bytes:
    packed = ModelProto()
    packed.CopyFrom(model)
    pack(packed, Path(), lambda _: "increment", form)
    return packed.SerializeToString()


class _Slope:
    """Rows of one length, and of half of it: what a step costs, and what a run costs beside its steps."""

    def __init__(self, run: Run, rows: int, steps: int, input_dim: int, **more: np.ndarray) -> None:
        self._steps, self._less = steps, steps - steps // 2
        lengths = ([steps] * rows, [steps - self._less] * rows)
        self.probes = [_Probe(run, {**_batch(several, input_dim), **more}) for several in lengths]

    @property
    def step(self) -> float:
        """Seconds of a step."""
        long, short = self.probes
        return max((long.seconds - short.seconds) / self._less, _LEAST)

    @property
    def once(self) -> float:
        """Seconds of a run without its steps."""
        return max(self.probes[0].seconds - self._steps * self.step, _LEAST)


class _Packed:
    """What is measured of a packed layer: full batches of few rows and of many, and stairs in several ways."""

    def __init__(self, run: Run, steps: int, input_dim: int) -> None:
        def increment(value: float) -> dict[str, np.ndarray]:
            return {"increment": np.array(value, np.float32)}

        stairs = list(range(1, _STAIRS + 1))
        self._few, self._many = (_Slope(run, ROWS[i], steps, input_dim, **increment(_NONE)) for i in (_FEW, -1))
        self._stairs = [
            _Probe(run, {**_batch(stairs, input_dim, padded), **increment(cuts)})
            for padded, cuts in ((0, _NONE), (0, _EVERY), (_LONG, _NONE))
        ]
        self.probes = [*self._few.probes, *self._many.probes, *self._stairs]

    def cost(self) -> LayerCost:
        """What follows, but for what the padded layer says."""
        few, many = self._few.step, self._many.step
        row = max((many - few) / (ROWS[-1] - ROWS[_FEW]), 1e-12)
        step = max(few - row * ROWS[_FEW], 0.0)
        one, cut, long = (probe.seconds for probe in self._stairs)
        saved = row * (_STAIRS * _STAIRS - _STAIRS * (_STAIRS + 1) / 2)
        piece = max((cut - one + saved) / (_STAIRS - 1), self._few.once / _STAIRS)  # where noise hides it
        cell = max((long - one) / (_STAIRS * (_LONG - _STAIRS)), 0.0)
        return LayerCost((), self._few.once, step, row, piece, cell)


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
