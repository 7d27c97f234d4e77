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

import keras  # noqa: E402
import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402

from seqport.exporters import Input, export  # noqa: E402
from seqport.runtime import Session  # noqa: E402

FEATURES, CHUNK = 300, 50_000


def make(rows: int) -> keras.Model:
    """A large table before a small network; its rows are drawn piece by piece, for Keras takes 8 GB to draw them."""
    keras.utils.set_random_seed(0)
    ids = keras.Input((None,), dtype="int64", name="ids")
    embedding = keras.layers.Embedding(rows, FEATURES, mask_zero=True, embeddings_initializer="zeros")
    x = keras.layers.Bidirectional(keras.layers.GRU(32, return_sequences=True))(embedding(ids))
    model = keras.Model(ids, keras.layers.Dense(3, name="logits")(x))
    random = np.random.default_rng(0)
    for start in range(0, rows, CHUNK):
        where = np.arange(start, min(start + CHUNK, rows))
        piece = random.standard_normal((len(where), FEATURES), np.float32)
        embedding.embeddings.value.scatter_update(tf.IndexedSlices(piece, where))
    return model


def main(folder: Path, rows: int, way: str) -> dict[str, Any]:
    """Export and run."""
    model, path = make(rows), folder / "m.onnx"
    inputs = [Input("ids", ("batch", "seq"), "int64")]
    source: Any = model
    if way == "function":
        source = tf.function(lambda ids: {"logits": model(ids)})
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
