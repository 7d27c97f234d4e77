"""A drawn Keras architecture as the model that a user would write, layer by layer."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers

from properties.batches import VOCABULARY
from properties.keras_architectures import MASK_VALUE, Architecture, Block, Cell, Convolution, PerStep, Recurrent

OUT_DIM = 3
ops: Any = keras.ops  # typed as if symbolic tensors gave None
_LAYERS: dict[str, Any] = {"rnn": layers.SimpleRNN, "gru": layers.GRU, "lstm": layers.LSTM}
_CELLS: dict[str, Any] = {"rnn": layers.SimpleRNNCell, "gru": layers.GRUCell, "lstm": layers.LSTMCell}


def build(architecture: Architecture, sample: list[np.ndarray], seed: int = 0) -> keras.Model:
    """The model, with seeded random weights.

    Args:
        architecture: what to build.
        sample: an array an input; a subclassed model makes its weights when it is called first.
        seed: of the weights.
    """
    keras.utils.set_random_seed(seed)
    parts = _Parts(architecture)
    if architecture.style == "subclassed":
        model: keras.Model = Subclassed(parts)
        model(*map(ops.convert_to_tensor, sample))
    elif architecture.style == "sequential":
        model = keras.Sequential([_symbolic(architecture.inputs[0]), *parts.chain()])
    else:
        tensors = [_symbolic(item) for item in architecture.inputs]
        model = keras.Model(tensors, parts.run(*tensors))
    random = np.random.default_rng(seed)
    model.set_weights([_weight(array, random) for array in model.get_weights()])
    return model


def _weight(array: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Within ±1/sqrt(fan in); Keras's own zero biases would hide a bias in the wrong place."""
    bound = 1 / np.sqrt(array.shape[0]) if array.ndim > 1 else 0.5
    return random.uniform(-bound, bound, array.shape).astype(array.dtype)


def _symbolic(item: Any) -> Any:
    return keras.Input([None if isinstance(a, str) else a for a in item.axes[1:]], dtype=item.dtype, name=item.name)


class LengthsMask(layers.Layer):
    """Lengths [batch] as a mask [batch, seq]."""

    def call(self, x: Any, lengths: Any) -> Any:
        return ops.arange(ops.shape(x)[1], dtype=lengths.dtype) < ops.expand_dims(lengths, 1)


class Subclassed(keras.Model):
    def __init__(self, parts: _Parts) -> None:
        super().__init__()
        self.parts = parts
        self.kept = list(parts.layers.values())  # for Keras to find their weights

    def call(self, *inputs: Any) -> Any:
        return self.parts.run(*inputs)


class _Parts:
    """All layers of an architecture, and how a tensor goes through them."""

    def __init__(self, architecture: Architecture) -> None:
        self.architecture = architecture
        self.names = [item.name for item in architecture.inputs]
        self.layers: dict[str, Any] = {}
        if architecture.source == "ids":
            mask_zero = architecture.mask == "zero"
            self.layers["source"] = layers.Embedding(VOCABULARY, architecture.width, mask_zero=mask_zero)
        elif architecture.mask == "masking":
            self.layers["source"] = layers.Masking(MASK_VALUE)
        if architecture.mask == "lengths":
            self.layers["mask"] = LengthsMask()
        width = architecture.width
        for index, block in enumerate(architecture.blocks):
            if not isinstance(block, Recurrent) or block.layer == index:
                self.layers[str(index)] = _layer(block, width)
            if isinstance(block, Recurrent):
                width = block.width
        self._make_head(architecture.head)

    def _make_head(self, head: str) -> None:
        if head == "average":
            self.layers["pool"] = layers.GlobalAveragePooling1D()
        elif head == "attention":
            self.layers["pool"] = layers.Attention()
        if head != "none":
            self.layers["head"] = layers.Dense(OUT_DIM)

    def chain(self) -> list[Any]:
        """The layers in sequence."""
        return list(self.layers.values())

    def run(self, *inputs: Any) -> Any:
        """The whole model."""
        given = dict(zip(self.names, inputs, strict=True))
        x = self.layers["source"](inputs[0]) if "source" in self.layers else inputs[0]
        mask = given.get("mask")
        if "mask" in self.layers:
            mask = self.layers["mask"](x, given["lengths"])
        masked = {} if mask is None else {"mask": mask}
        state: list[Any] = []
        finals: list[Any] = []
        for index, block in enumerate(self.architecture.blocks):
            if isinstance(block, Recurrent):
                initial = self._initial(index, block, given, state)
                x, state = _call(self.layers[str(block.layer)], block, x, masked, initial)
                finals += state
            else:
                y = self.layers[str(index)](x)
                x = layers.Add()([x, y]) if isinstance(block, PerStep) and block.residual else y
        output = self._head(x, masked)
        return (output, *finals) if finals else output

    def _initial(self, index: int, block: Recurrent, given: dict[str, Any], state: list[Any]) -> list[Any] | None:
        if block.initial == "previous":
            return state
        if block.initial == "given":
            return [given[f"state_{index}_{i}"] for i in range(len(block.states))]
        if block.initial == "zeros":
            rows = ops.cast(given[self.names[0]], "float32")
            # [batch, 1] of zeros: a symbolic batch has no size that ops.zeros would take.
            zeros = ops.sum(ops.zeros_like(rows), axis=tuple(range(1, len(rows.shape))))[:, None]
            return [ops.repeat(zeros, size, axis=1) for size in block.states]
        return None

    def _head(self, x: Any, masked: dict[str, Any]) -> Any:
        head = self.architecture.head
        if head == "average":
            x = self.layers["pool"](x, **masked)
        elif head == "attention":
            x = self.layers["pool"]([x, x], **({"mask": [masked["mask"]] * 2} if masked else {}))
        return x if head == "none" else self.layers["head"](x)


def _call(layer: Any, block: Recurrent, x: Any, masked: dict[str, Any], initial: Any) -> tuple[Any, list[Any]]:
    """One recurrent layer: its output and the states that it returns."""
    if initial is not None and not block.merge and len(block.cells) > 1:
        nested, rest = [], list(initial)
        for cell in block.cells:
            nested.append(rest[: cell.states] if cell.states > 1 else rest[0])
            del rest[: cell.states]
        initial = nested
    found = layer(x, initial_state=initial, **masked)
    found = keras.tree.flatten(found)
    if block.merge == "apart":
        forward, backward, *states = found
        return layers.Concatenate()([forward, backward]), states
    return found[0], found[1:]


def _layer(block: Block, width: int) -> Any:
    if isinstance(block, Convolution):
        return layers.Conv1D(width, block.kernel, padding=block.padding)
    if isinstance(block, PerStep):
        kinds = {
            "dense": lambda: layers.Dense(width, activation="tanh"),
            "distributed": lambda: layers.TimeDistributed(layers.Dense(width, activation="sigmoid")),
            "norm": layers.LayerNormalization,
            "dropout": lambda: layers.Dropout(0.4),
            "activation": lambda: layers.Activation("relu"),
        }
        return kinds[block.kind]()
    options = {
        "return_sequences": block.return_sequences,
        "return_state": block.return_state,
        "go_backwards": block.go_backwards,
        "unroll": block.unroll,
        "zero_output_for_mask": block.zero_output_for_mask,
    }
    if block.over_cells:
        cells = [_CELLS[cell.kind](cell.units, **_options(cell)) for cell in block.cells]
        layer = layers.RNN(cells if len(cells) > 1 else cells[0], **options)
    else:
        (cell,) = block.cells
        layer = _LAYERS[cell.kind](cell.units, **_options(cell), **options)
    if not block.merge:
        return layer
    merge: Any = None if block.merge == "apart" else block.merge
    return layers.Bidirectional(layer, merge_mode=merge)


def _options(cell: Cell) -> dict[str, Any]:
    options: dict[str, Any] = {"activation": cell.activation, "use_bias": cell.use_bias}
    if cell.kind != "rnn":
        options["recurrent_activation"] = cell.recurrent_activation
    if cell.kind == "gru":
        options["reset_after"] = cell.reset_after
    return options
