"""Export TensorFlow models without live Keras 3 layers, and compare them with TensorFlow; a process of its own.

Usage: python tensorflow_cases.py FOLDER CASE. TF 1's cells want legacy Keras, which is an option of the whole process.
Prints one JSON line: the native nodes of the artifact, as [operator, direction, lengths].
"""

from __future__ import annotations

import json
import logging
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

os.environ |= {"TF_USE_LEGACY_KERAS": "1", "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
logging.disable(logging.WARNING)
warnings.simplefilter("ignore")
sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402
import tf_keras  # noqa: E402
from support.checks import SHAPES, assert_contract, assert_same, draw, run_file  # noqa: E402

from seqport.exporters import Input, export  # noqa: E402

VOCABULARY, FEATURES, HIDDEN = 4, 3, 5
IDS = [Input("ids", ("batch", "seq"), "int64")]
GRAPH_INPUTS = [Input("x", ("batch", "seq", FEATURES)), Input("lengths", ("batch",), "int32")]

# What to export, its inputs (None: it declares them), the same for the comparison, and TensorFlow's own answers.
Case = tuple[Any, list[Input] | None, list[Input], Callable[..., Sequence[Any]]]


def tagger() -> Any:
    layers = tf_keras.layers
    ids = tf_keras.Input((None,), dtype="int64", name="ids")
    x = layers.Embedding(VOCABULARY, FEATURES, mask_zero=True)(ids)
    x = layers.Bidirectional(layers.LSTM(HIDDEN, return_sequences=True))(x)
    return tf_keras.Model(ids, layers.Dense(2)(layers.GRU(HIDDEN, return_sequences=True)(x)))


def of_tf_keras(_: Path) -> Case:
    model = tagger()
    return model, None, IDS, lambda ids: [model(ids)]


def of_saved_model(folder: Path) -> Case:
    model = tagger()
    model.save(folder / "saved", save_format="tf")
    return folder / "saved", None, IDS, lambda ids: [model(ids)]


def of_function(_: Path) -> Case:
    model = tagger()
    function = tf.function(lambda ids: {"logits": model(ids)})
    return function, IDS, IDS, lambda ids: [model(ids)]


def of_concrete_function(_: Path) -> Case:
    model = tagger()
    signature = [tf.TensorSpec((None, None), tf.int64, name="ids")]
    function = tf.function(lambda ids: model(ids), input_signature=signature).get_concrete_function()
    return function, None, IDS, lambda ids: [model(ids)]


def of_frozen_graph(folder: Path, kind: str, flow: str) -> Case:
    v1 = tf.compat.v1
    (v1.enable_control_flow_v2 if flow == "v2" else v1.disable_control_flow_v2)()
    cells = v1.nn.rnn_cell
    cell = {
        "rnn": lambda: cells.BasicRNNCell(HIDDEN, activation=tf.nn.relu),
        "gru": lambda: cells.GRUCell(HIDDEN),
        "lstm": lambda: cells.BasicLSTMCell(HIDDEN, forget_bias=0.5),
        "peepholes": lambda: cells.LSTMCell(HIDDEN, use_peepholes=True),
        "stacked": lambda: cells.MultiRNNCell([cells.GRUCell(4), cells.BasicLSTMCell(HIDDEN)]),
    }[kind]()
    graph = tf.Graph()
    with graph.as_default(), v1.Session(graph=graph) as session:
        x = v1.placeholder(tf.float32, [None, None, FEATURES], name="x")
        lengths = v1.placeholder(tf.int32, [None], name="lengths")
        y, state = v1.nn.dynamic_rnn(cell, x, sequence_length=lengths, dtype=tf.float32)
        names = ["y", *(f"state_{i}" for i, _ in enumerate(tf.nest.flatten(state)))]
        for name, value in zip(names, [y, *tf.nest.flatten(state)], strict=True):
            tf.identity(value, name=name)
        session.run(v1.global_variables_initializer())
        frozen = v1.graph_util.convert_variables_to_constants(session, graph.as_graph_def(), names)
    path = folder / "frozen.pb"
    path.write_bytes(frozen.SerializeToString())

    def run(x: Any, lengths: Any) -> Sequence[Any]:
        with tf.Graph().as_default() as own, v1.Session(graph=own) as session:
            tf.import_graph_def(frozen, name="")
            return session.run([f"{name}:0" for name in names], {"x:0": x.numpy(), "lengths:0": lengths.numpy()})

    return path, GRAPH_INPUTS, GRAPH_INPUTS, run


def main(folder: Path, name: str) -> None:
    kind, _, flow = name.partition("/")
    cases = {"tf_keras": of_tf_keras, "saved_model": of_saved_model, "function": of_function}
    cases["concrete_function"] = of_concrete_function
    case = cases[kind](folder) if kind in cases else of_frozen_graph(folder, kind, flow)
    model, declared, inputs, run = case
    artifact = export(model, folder / "m.onnx", declared)
    assert_contract(artifact.path, inputs)
    for shape in SHAPES:
        arrays = draw(inputs, shape, vocabulary=VOCABULARY)
        expected = [np.asarray(leaf) for leaf in run(*(tf.constant(arrays[item.name]) for item in inputs))]
        assert_same(list(run_file(artifact.path, arrays).values()), expected, f"{name} at {shape}")
    print(json.dumps([[r.op, r.direction, r.lengths] for r in artifact.description.recurrent]))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
