"""Export TF 1 graphs as users write them, and compare them with TensorFlow; a process of its own for all of them.

Usage: python tensorflow_v1_graphs.py FOLDER NAME..., each NAME as case/flow/form: control flow v1 or v2, a frozen
graph (pb), a SavedModel (saved), or one of which no variable fits a graph (large). Prints a line of JSON for each: the
native nodes of the artifact, or what failed.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import warnings
from pathlib import Path
from typing import Any

os.environ |= {"TF_USE_LEGACY_KERAS": "1", "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
logging.disable(logging.WARNING)
warnings.simplefilter("ignore")
sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402
from support.checks import assert_contract, assert_same, draw, run_file  # noqa: E402

from seqport.exporters import Input, export  # noqa: E402
from seqport.exporters.frontends.tensorflow import freeze  # noqa: E402

FEATURES, HIDDEN = 3, 5
# The last also has rows of length zero, which keep the initial state.
SHAPES = ((1, 1), (1, 9), (4, 3), (7, 31), (4, 6))
v1 = tf.compat.v1
cells = v1.nn.rnn_cell

# Tensors by name: inputs and outputs.
Graph = tuple[dict[str, Any], list[Any]]


def inputs(seq: int | None = None, **more: int) -> dict[str, Any]:
    """Placeholders x, lengths, and one of the given width for each further name."""
    found = {"x": v1.placeholder(tf.float32, [None, seq, FEATURES], name="x")}
    found["lengths"] = v1.placeholder(tf.int32, [None], name="lengths")
    return found | {name: v1.placeholder(tf.float32, [None, width], name=name) for name, width in more.items()}


def layer(cell: Any, state: Any = None, **given: int) -> Graph:
    feeds = inputs(**given)
    first = None if state is None else state(feeds)
    return feeds, tf.nest.flatten(
        v1.nn.dynamic_rnn(cell, feeds["x"], sequence_length=feeds["lengths"], initial_state=first, dtype=tf.float32)
    )


def bidirectional_time_major() -> Graph:
    feeds = inputs()
    one, other = cells.GRUCell(HIDDEN), cells.LSTMCell(HIDDEN)
    x = tf.transpose(feeds["x"], [1, 0, 2])
    result = v1.nn.bidirectional_dynamic_rnn(
        one, other, x, sequence_length=feeds["lengths"], dtype=tf.float32, time_major=True
    )
    return feeds, tf.nest.flatten(result)


def dropout() -> Graph:
    """One that a placeholder's default switches off, around the layer and in it; and a branch for training."""
    feeds = inputs()
    keep = v1.placeholder_with_default(1.0, [], name="keep_prob")
    training = v1.placeholder_with_default(False, [], name="is_training")
    cell = cells.DropoutWrapper(cells.LSTMCell(HIDDEN), input_keep_prob=keep, output_keep_prob=keep)
    x = v1.nn.dropout(feeds["x"], keep_prob=keep)
    y, state = v1.nn.dynamic_rnn(cell, x, sequence_length=feeds["lengths"], dtype=tf.float32)
    y = tf.cond(training, lambda: tf.nn.dropout(y, 0.5), lambda: tf.identity(y))
    return feeds, [v1.layers.dense(y, 2), state.c]


def static(cell: Any) -> Graph:
    feeds = inputs(seq=6)
    y, state = v1.nn.static_rnn(cell, tf.unstack(feeds["x"], axis=1), dtype=tf.float32)
    del feeds["lengths"]
    return feeds, [tf.stack(y, 1), *tf.nest.flatten(state)]


def static_lengths() -> Graph:
    feeds = inputs(seq=6)
    steps = tf.unstack(feeds["x"], axis=1)
    y, state = v1.nn.static_rnn(cells.GRUCell(HIDDEN), steps, sequence_length=feeds["lengths"], dtype=tf.float32)
    return feeds, [tf.stack(y, 1), state]


def hand_written() -> Graph:
    """A while_loop whose body has names that the graph has too."""
    feeds = inputs()
    x, lengths = feeds["x"], feeds["lengths"]
    W = v1.get_variable("W", [FEATURES + HIDDEN, HIDDEN])
    batch_size, seq_max_len = tf.shape(x)[0], tf.shape(x)[1]

    def step(t: Any, h: Any, y: Any) -> Any:
        new = tf.tanh(tf.matmul(tf.concat([x[:, t], h], 1), W))
        h = tf.where(tf.broadcast_to((t < lengths)[:, None], tf.shape(new)), new, h)
        return t + 1, h, y.write(t, h)

    shapes = [tf.TensorShape([]), tf.TensorShape([None, HIDDEN]), tf.TensorShape(None)]  # type: ignore[arg-type] - any shape
    start = [0, tf.zeros([batch_size, HIDDEN]), tf.TensorArray(tf.float32, seq_max_len)]
    _, h, y = tf.while_loop(lambda t, *_: t < seq_max_len, step, start, shape_invariants=shapes)
    return feeds, [tf.transpose(y.stack(), [1, 0, 2]), h]


def doubles() -> Graph:
    feeds = inputs()
    y, state = v1.nn.dynamic_rnn(
        cells.GRUCell(HIDDEN), tf.cast(feeds["x"], tf.float64), sequence_length=feeds["lengths"], dtype=tf.float64
    )
    return feeds, [y, state]


def flat(*widths: int) -> Any:
    return cells.MultiRNNCell([cells.BasicLSTMCell(w, state_is_tuple=False) for w in widths], state_is_tuple=False)


CASES = {
    "flat": lambda: layer(cells.BasicLSTMCell(HIDDEN, state_is_tuple=False), lambda given: given["s"], s=2 * HIDDEN),
    "flat_stack": lambda: layer(flat(4, HIDDEN)),
    "projected": lambda: layer(
        cells.LSTMCell(HIDDEN, num_proj=2, use_peepholes=True),
        lambda given: cells.LSTMStateTuple(given["c"], given["h"]),
        c=HIDDEN,
        h=2,
    ),
    "residual": lambda: layer(
        cells.MultiRNNCell([cells.GRUCell(FEATURES), cells.ResidualWrapper(cells.LSTMCell(FEATURES))])
    ),
    "clipped": lambda: layer(cells.LSTMCell(HIDDEN, cell_clip=1.0)),
    "bidirectional_time_major": bidirectional_time_major,
    "dropout": dropout,
    "static_lstm": lambda: static(cells.BasicLSTMCell(HIDDEN)),
    "static_stack": lambda: static(cells.MultiRNNCell([cells.GRUCell(HIDDEN), cells.BasicLSTMCell(HIDDEN)])),
    "static_lengths": static_lengths,
    "hand_written": hand_written,
    "doubles": doubles,
}


def main(folder: Path, names: list[str]) -> None:
    for name in names:
        case, flow, form = name.split("/")
        freeze.FROZEN_AT_MOST = 0 if form == "large" else 1 << 20
        (v1.enable_control_flow_v2 if flow == "v2" else v1.disable_control_flow_v2)()
        graph = tf.Graph()
        # The export runs inside of the graph's own context, as it does in a TF 1 program.
        with graph.as_default(), v1.Session(graph=graph) as session:
            try:
                print(json.dumps(exported(session, *CASES[case](), folder / name.replace("/", "_"), form)))
            except Exception as error:
                print(json.dumps(f"{type(error).__name__}: {error}"))


def exported(session: Any, feeds: dict[str, Any], results: list[Any], path: Path, form: str) -> list[list[str | None]]:
    outputs = {f"out_{i}": tf.identity(result, name=f"out_{i}") for i, result in enumerate(results)}
    session.run(v1.global_variables_initializer())
    random = np.random.default_rng(0)
    for variable in v1.global_variables():
        variable.load((0.4 * random.standard_normal(variable.shape)).astype(variable.dtype.as_numpy_dtype), session)
    if form != "pb":
        v1.saved_model.simple_save(session, str(path), feeds, outputs)
    else:
        path = path.with_suffix(".pb")
        frozen = v1.graph_util.convert_variables_to_constants(session, session.graph.as_graph_def(), list(outputs))
        path.write_bytes(frozen.SerializeToString())
    declared = [
        # By tensor in a frozen graph, as TF 1 names them; by key in a signature.
        Input(f"{name}:0" if form == "pb" else name, axes(tensor), tensor.dtype.name)
        for name, tensor in feeds.items()
    ]
    artifact = export(path, path.with_suffix(".onnx"), declared, outputs=list(outputs))
    assert_contract(artifact.path, declared)
    plain = [Input(name, item.axes, item.dtype) for name, item in zip(feeds, declared, strict=True)]
    for number, (batch, seq) in enumerate(SHAPES):
        arrays = draw(plain, (batch, seq), vocabulary=2, seed=number)
        if "lengths" in arrays and (batch, seq) == SHAPES[-1]:
            arrays["lengths"][np.argmin(arrays["lengths"])] = 0
        expected = session.run(list(outputs.values()), {feeds[name]: array for name, array in arrays.items()})
        given = {item.name: array for item, array in zip(declared, arrays.values(), strict=True)}
        assert_same(list(run_file(artifact.path, given).values()), expected, f"{path.name} at {batch}, {seq}")
    return [[r.op, r.direction, r.lengths] for r in artifact.description.recurrent]


def axes(tensor: Any) -> tuple[str | int, ...]:
    return tuple(size or ("batch", "seq")[i] for i, size in enumerate(tensor.shape.as_list()))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
