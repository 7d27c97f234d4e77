"""Frozen TF 1 graphs as users keep them: dynamic_rnn over every cell, with lengths or without, in either control flow.

Needs TF_USE_LEGACY_KERAS=1 before TensorFlow is imported. Each name is flow-cell-options.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from seqport.exporters import Input

FEATURES, HIDDEN = 3, 4
v1 = tf.compat.v1
rnn = v1.nn.rnn_cell

CELLS = {
    "rnn": lambda: rnn.BasicRNNCell(HIDDEN),
    "rnn_relu": lambda: rnn.BasicRNNCell(HIDDEN, activation=tf.nn.relu),
    "gru": lambda: rnn.GRUCell(HIDDEN),
    "basic_lstm": lambda: rnn.BasicLSTMCell(HIDDEN, forget_bias=0.7),
    "lstm": lambda: rnn.LSTMCell(HIDDEN),
    "peepholes": lambda: rnn.LSTMCell(HIDDEN, use_peepholes=True),
    "projected": lambda: rnn.LSTMCell(HIDDEN, num_proj=2),
    "stack": lambda: rnn.MultiRNNCell([rnn.BasicLSTMCell(HIDDEN), rnn.GRUCell(HIDDEN)]),
}
_OPTIONS = {
    "rnn": ("lengths",),
    "rnn_relu": ("lengths",),
    "gru": ("lengths", "plain", "lengths+bidirectional", "lengths+initial"),
    "basic_lstm": ("lengths", "lengths+time_major", "lengths+bidirectional"),
    "lstm": ("lengths", "plain", "lengths+last"),
    "peepholes": ("lengths",),
    "projected": ("lengths",),
    "stack": ("lengths", "lengths+bidirectional"),
}
NAMES = [
    f"{flow}-{cell}-{options}" for flow, cell in itertools.product(("v1", "v2"), CELLS) for options in _OPTIONS[cell]
]


def freeze(name: str) -> tuple[Any, tuple[Input, ...], list[str]]:
    """A frozen GraphDef, its inputs by placeholder, and the names of its outputs."""
    flow, cell, options = name.split("-")
    (v1.enable_control_flow_v2 if flow == "v2" else v1.disable_control_flow_v2)()
    graph = tf.Graph()
    with graph.as_default(), v1.Session(graph=graph) as session:
        feeds, results = _built(CELLS[cell], set(options.split("+")))
        outputs = [tf.identity(leaf, name=f"out_{i}").op.name for i, leaf in enumerate(tf.nest.flatten(results))]
        session.run(v1.global_variables_initializer())
        random = np.random.default_rng(0)
        for variable in v1.global_variables():
            # Small enough that a ReLU's state does not grow with the steps.
            variable.load((0.4 * random.standard_normal(variable.shape)).astype(np.float32), session)
        frozen = v1.graph_util.convert_variables_to_constants(session, graph.as_graph_def(), outputs)
    return frozen, feeds, outputs


def run_frozen(frozen: Any, outputs: Sequence[str], arrays: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """TensorFlow's own answers."""
    with tf.Graph().as_default() as graph, v1.Session(graph=graph) as session:
        tf.import_graph_def(frozen, name="")
        return session.run([f"{name}:0" for name in outputs], {f"{name}:0": array for name, array in arrays.items()})


def _built(make: Any, options: set[str]) -> tuple[tuple[Input, ...], Any]:
    time_major = "time_major" in options
    axes = ("seq", "batch", FEATURES) if time_major else ("batch", "seq", FEATURES)
    inputs = [Input("x", axes)]
    x = v1.placeholder(tf.float32, [None, None, FEATURES], name="x")
    arguments: dict[str, Any] = {"dtype": tf.float32, "time_major": time_major}
    cell = make()
    if "lengths" in options:
        inputs.append(Input("lengths", ("batch",), "int32"))
        arguments["sequence_length"] = v1.placeholder(tf.int32, [None], name="lengths")
    if "initial" in options:
        inputs.append(Input("h_0", ("batch", HIDDEN)))
        arguments["initial_state"] = v1.placeholder(tf.float32, [None, HIDDEN], name="h_0")
    if "bidirectional" in options:
        return tuple(inputs), v1.nn.bidirectional_dynamic_rnn(cell, make(), x, **arguments)
    y, state = v1.nn.dynamic_rnn(cell, x, **arguments)
    if "last" in options:
        lengths = arguments["sequence_length"]
        rows = tf.stack([tf.range(tf.shape(x)[0]), lengths - 1], axis=1)
        return tuple(inputs), [tf.nn.softmax(v1.layers.dense(tf.gather_nd(y, rows), 3)), state]
    return tuple(inputs), [y, state]
