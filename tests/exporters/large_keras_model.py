"""Export a Keras model with more than 2 GB of weights and run it; a process of its own, whose peak memory is its own.

Usage: python large_keras_model.py FOLDER ROWS WAY. Prints what large_model.py does, the difference being to Keras.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from pathlib import Path
from typing import Any

os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}

import keras
import numpy as np
import tensorflow as tf

from seqport.exporters import Input, export
from seqport.runtime import Session

FEATURES = 300


def make(rows: int) -> keras.Model:
    """A large table before a small network; NumPy draws its rows, for which Keras would take 8 GB."""
    keras.utils.set_random_seed(0)
    ids = keras.Input((None,), dtype="int64", name="ids")
    embedding = keras.layers.Embedding(rows, FEATURES, mask_zero=True, embeddings_initializer="zeros")
    x = keras.layers.Bidirectional(keras.layers.GRU(32, return_sequences=True))(embedding(ids))
    model = keras.Model(ids, keras.layers.Dense(3, name="logits")(x))
    embedding.set_weights([np.random.default_rng(0).standard_normal((rows, FEATURES), np.float32)])
    return model


def main(folder: Path, rows: int, way: str) -> dict[str, Any]:
    """Export and run."""
    model, path = make(rows), folder / "m.onnx"
    inputs = [Input("ids", ("batch", "seq"), "int64")]
    source: Any = tf.function(lambda ids: {"logits": model(ids)}) if way == "function" else model
    export(source, path, inputs, ["logits"])
    ids = np.array([[rows - 1, 5, 0], [3, rows // 2, 1]])
    found = Session(path, provider="cpu").run({"ids": ids})["logits"]
    return {
        "files": {file.name: file.stat().st_size for file in sorted(folder.iterdir())},
        "difference": float(np.abs(found - np.asarray(model(ids))).max()),
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3])))
