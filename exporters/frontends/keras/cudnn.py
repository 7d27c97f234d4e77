"""A machine with a GPU traces and answers as one without: cuDNN's kernels, which no ONNX operator matches, stay off.

Keras 3 chooses them in the `inner_loop` of LSTM and GRU, and for both directions at once in Bidirectional, by the
layer's `use_cudnn` and the GPUs that TensorFlow sees; they also refuse every mask that is not right padding.
tf_keras chooses by the device of the call, and in a traced function by a rewrite of the graph that follows the device.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import keras

from seqport.exporters.frontends.patching import attribute, replaced


@contextmanager
def without_cudnn() -> Iterator[None]:
    """Within this block Keras 3's layers run their own loops, `use_cudnn=True` or not."""

    def own_loop(original: Any) -> Any:
        def patched(layer: Any, *args: Any, **kwargs: Any) -> Any:
            with attribute(layer, "use_cudnn", False):
                return original(layer, *args, **kwargs)

        return patched

    with ExitStack() as stack:
        for layer in (keras.layers.GRU, keras.layers.LSTM):
            stack.enter_context(replaced(layer, "inner_loop", own_loop(layer.inner_loop)))
        for fused in ("_can_attempt_fused_lstm", "_can_attempt_fused_gru"):
            if hasattr(keras.layers.Bidirectional, fused):  # since 3.15
                stack.enter_context(replaced(keras.layers.Bidirectional, fused, lambda *_: False))
        yield
