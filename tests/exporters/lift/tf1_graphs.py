"""Write frozen TF 1 graphs as tf2onnx converts them; a script of its own, because TF 1's cells want legacy Keras.

Usage: python tf1_graphs.py FOLDER NAME..., each NAME as control_flow-cell-options, such as v1-gru-lengths+initial.
Writes FOLDER/NAME.onnx, and FOLDER/NAME.npz with TensorFlow's own answers.
"""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Any

FEATURES, HIDDEN = 3, 4


def main(folder: Path, names: list[str]) -> None:
    os.environ |= {"TF_USE_LEGACY_KERAS": "1", "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    logging.disable(logging.WARNING)
    import tensorflow as tf

    for name in names:
        flow, cell, options = name.split("-")
        switch = tf.compat.v1.enable_control_flow_v2 if flow == "v2" else tf.compat.v1.disable_control_flow_v2
        switch()
        graph = tf.Graph()
        with graph.as_default():
            feeds, outputs = build(tf, cell, set(options.split("+")))
            save(tf, graph, feeds, outputs, folder / name)


def cells(tf: Any, kind: str) -> Any:
    rnn = tf.compat.v1.nn.rnn_cell
    make = {
        "rnn": lambda: rnn.BasicRNNCell(HIDDEN),
        "relu": lambda: rnn.BasicRNNCell(HIDDEN, activation=tf.nn.relu),
        "gru": lambda: rnn.GRUCell(HIDDEN),
        "basic_lstm": lambda: rnn.BasicLSTMCell(HIDDEN, forget_bias=0.7),
        "lstm": lambda: rnn.LSTMCell(HIDDEN, forget_bias=2.5),
        "peepholes": lambda: rnn.LSTMCell(HIDDEN, use_peepholes=True),
        "multi": lambda: rnn.MultiRNNCell([rnn.BasicLSTMCell(HIDDEN), rnn.GRUCell(HIDDEN)]),
        "clipped": lambda: rnn.LSTMCell(HIDDEN, cell_clip=0.1),
    }
    return make[kind]()


def build(tf: Any, kind: str, options: set[str]) -> tuple[dict[str, Any], list[Any]]:
    v1 = tf.compat.v1
    feeds = {"x": v1.placeholder(tf.float32, [None, None, FEATURES], name="x")}
    arguments: dict[str, Any] = {"dtype": tf.float32, "time_major": "time_major" in options}
    if "lengths" in options:
        feeds["lengths"] = arguments["sequence_length"] = v1.placeholder(tf.int32, [None], name="lengths")
    cell = cells(tf, kind)
    if "initial" in options:
        states = [
            v1.placeholder(tf.float32, [None, HIDDEN], name=f"s_{i}")
            for i, _ in enumerate(tf.nest.flatten(cell.state_size))
        ]
        feeds |= {f"s_{i}": state for i, state in enumerate(states)}
        arguments["initial_state"] = tf.nest.pack_sequence_as(cell.state_size, states)
    if "bidirectional" in options:
        result = v1.nn.bidirectional_dynamic_rnn(cell, cells(tf, kind), feeds["x"], **arguments)
    else:
        result = v1.nn.dynamic_rnn(cell, feeds["x"], **arguments)
    return feeds, [tf.identity(leaf, name=f"out_{i}") for i, leaf in enumerate(tf.nest.flatten(result))]


def save(tf: Any, graph: Any, feeds: dict[str, Any], outputs: list[Any], path: Path) -> None:
    import numpy as np
    import tf2onnx

    v1 = tf.compat.v1
    random = np.random.default_rng(0)
    with v1.Session(graph=graph) as session:
        session.run(v1.global_variables_initializer())
        for variable in v1.global_variables():
            # Small enough that a ReLU's state does not grow with the steps.
            variable.load((0.4 * random.standard_normal(variable.shape)).astype(np.float32), session)
        batch, seq = (6, 3) if path.name.endswith("time_major") else (3, 6)
        arrays = {
            name: random.integers(0, 6, 3).astype(np.int32)
            if name == "lengths"
            else random.standard_normal((batch, seq, FEATURES) if name == "x" else (3, HIDDEN)).astype(np.float32)
            for name in feeds
        }
        answers = session.run(outputs, {feeds[name]: array for name, array in arrays.items()})
        names = [output.op.name for output in outputs]
        frozen = v1.graph_util.convert_variables_to_constants(session, graph.as_graph_def(), names)
    for nodes in (frozen.node, *(function.node_def for function in frozen.library.function)):
        for node in nodes:  # else the loop is taken apart before tf2onnx sees it, and its TensorLists stay behind
            node.attr.pop("_lower_using_switch_merge", None)
    tf2onnx.convert.from_graph_def(
        frozen,
        input_names=[tensor.name for tensor in feeds.values()],
        output_names=[output.name for output in outputs],
        opset=18,
        output_path=str(path) + ".onnx",
    )
    answers = {f"out_{i}:0": answer for i, answer in enumerate(answers)}
    np.savez(str(path) + ".npz", **{f"{name}:0": array for name, array in arrays.items()}, **answers)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
