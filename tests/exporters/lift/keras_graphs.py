"""Write recurrent Keras models as tf2onnx converts them, of Keras 3 or of tf_keras.

Usage: python keras_graphs.py FOLDER NAME..., each NAME as package-layer-options, such as keras-gru-mask+bidirectional.
"""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Any

FEATURES, HIDDEN = 3, 4


def main(folder: Path, names: list[str]) -> None:
    os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    if names[0].startswith("tf_keras"):
        os.environ["TF_USE_LEGACY_KERAS"] = "1"
    logging.disable(logging.WARNING)
    import tensorflow as tf
    import tf2onnx

    for name in names:
        package, kind, options = name.split("-")
        keras = __import__(package)
        keras.utils.set_random_seed(0)
        model, signature = build(tf, keras, kind, set(options.split("+")))
        flat = tf.function(
            lambda *values, model=model: [tf.identity(leaf) for leaf in tf.nest.flatten(model(list(values)))],
            input_signature=signature,
        )
        path = str(folder / f"{name}.onnx")
        tf2onnx.convert.from_function(flat, input_signature=signature, opset=18, output_path=path)


def build(tf: Any, keras: Any, kind: str, options: set[str]) -> tuple[Any, list[Any]]:
    x = keras.Input((None, FEATURES), name="x")
    inputs, signature, masked = [x], [tf.TensorSpec([None, None, FEATURES], tf.float32, name="x")], {}
    if "mask" in options:
        mask = keras.Input((None,), dtype="bool", name="mask")
        inputs.append(mask)
        signature.append(tf.TensorSpec([None, None], tf.bool, name="mask"))
        masked["mask"] = mask
    layer, more = {
        "rnn": (keras.layers.SimpleRNN, {}),
        "gru": (keras.layers.GRU, {}),
        "gru_before": (keras.layers.GRU, {"reset_after": False}),
        "lstm": (keras.layers.LSTM, {}),
        "hard": (keras.layers.LSTM, {"recurrent_activation": "hard_sigmoid"}),
        "swish": (keras.layers.LSTM, {"activation": "swish"}),
    }[kind]
    made = layer(
        HIDDEN,
        return_sequences="last" not in options,
        return_state=True,
        bias_initializer="random_normal",
        go_backwards="backwards" in options,
        zero_output_for_mask="zero" in options,
        **more,
    )
    if "bidirectional" in options:
        made = keras.layers.Bidirectional(made)
    return keras.Model(inputs, made(x, **masked)), signature


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
