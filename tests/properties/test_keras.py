"""Any drawn Keras architecture: exported once, it gives Keras's own answers at any shape and for any mask."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from hypothesis import given
from support.checks import assert_contract

from properties.agreement import assert_agree, run_as_declared
from properties.batches import Batch, several
from properties.keras_architectures import MASK_VALUE, Architecture, architectures
from properties.keras_builder import build
from properties.profiles import examples
from seqport.exporters import export


@examples(few=9)
@given(architecture=architectures(), batches=several())
def test_an_exported_model_gives_keras_answers(folder: Path, architecture: Architecture, batches: list[Batch]) -> None:
    check(architecture, batches, folder / "keras.onnx")


def check(architecture: Architecture, batches: list[Batch], path: Path) -> None:
    """Export once, compare at every batch."""
    drawn = [_arrays(architecture, batch) for batch in batches]
    model = build(architecture, list(drawn[0].values()))
    export(model, path, architecture.inputs)
    assert_contract(path, architecture.inputs)
    for batch, arrays in zip(batches, drawn, strict=True):
        values = [tf.constant(array) for array in arrays.values()]
        answers = (
            model(*values) if architecture.style == "subclassed" else model(values[0] if len(values) == 1 else values)
        )
        expected = [np.asarray(leaf) for leaf in keras.tree.flatten(answers)]
        assert_agree(run_as_declared(path, architecture.inputs, arrays), expected, batch)


def _arrays(architecture: Architecture, batch: Batch) -> dict[str, np.ndarray]:
    """Values for the inputs, with a mask of every kind: holes, padding on either side, rows with no step at all."""
    if architecture.seq is not None:
        lengths = tuple(min(length, architecture.seq) for length in batch.lengths)
        batch = replace(batch, seq=architecture.seq, lengths=lengths)
    arrays = batch.arrays(architecture.inputs)
    kept = _kept(batch)
    if architecture.mask == "given":
        arrays["mask"] = kept
    elif architecture.mask == "zero":
        arrays["ids"] = np.where(kept, np.maximum(arrays["ids"], 1), 0)
    elif architecture.mask == "masking":
        arrays["x"] = np.where(kept[..., None], arrays["x"], np.float32(MASK_VALUE))
    return arrays


def _kept(batch: Batch) -> np.ndarray:
    """A mask [batch, seq], of the kind that the batch's seed says."""
    steps, lengths = np.arange(batch.seq), np.array(batch.lengths)[:, None]
    random = np.random.default_rng(batch.seed)
    return (
        steps < lengths,  # padded on the right
        steps >= batch.seq - lengths,  # on the left
        random.random((len(batch.lengths), batch.seq)) < 0.6,
        random.random((len(batch.lengths), batch.seq)) < 0.2,
    )[batch.seed % 4]
