"""Every opset, over ways of writing models whose operators changed between them."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import onnx
import pytest
import tensorflow as tf
import torch
from support import keras_models, torch_models
from support.checks import assert_contract, assert_same, draw, native_nodes, run_file
from support.keras_models import rows as keras_rows
from support.torch_rows import rows as torch_rows
from torch.utils import _pytree as pytree

from seqport.exporters import export
from seqport.exporters.arrangement import Arrangement
from seqport.exporters.frontends.keras.call import callers, flatten_outputs

# https://github.com/onnx/onnx/blob/main/docs/Versioning.md
IR_VERSIONS = {17: 8, 18: 8, 19: 9, 20: 9, 21: 10, 22: 10}
SHAPE = (5, 8, 3)
# Lengths and projections; a loop over cells with a mask.
TORCH = {row.name: row for row in torch_rows() if row.name in ("projected", "masked-lstm-cell")}
# States that go to a decoder; pooling over a mask.
KERAS = {row.name: row for row in keras_rows() if row.name in ("encoder-decoder", "pooled")}


def _check_file(path: Path, opset: int) -> None:
    file = onnx.load(path)
    assert {entry.domain: entry.version for entry in file.opset_import} == {"": opset}
    assert file.ir_version == IR_VERSIONS[opset]
    assert native_nodes(path)


@pytest.mark.parametrize("opset", IR_VERSIONS)
@pytest.mark.parametrize("name", TORCH)
def test_a_pytorch_module_at_every_opset(name: str, opset: int, tmp_path: Path) -> None:
    row, path = TORCH[name], tmp_path / "m.onnx"
    torch.manual_seed(0)
    model = row.make().eval()
    export(model, path, row.inputs, opset=opset)
    _check_file(path, opset)
    assert_contract(path, row.inputs)
    arrays = draw(row.inputs, SHAPE, vocabulary=torch_models.VOCABULARY)
    with torch.no_grad():
        expected = pytree.tree_leaves(model(*map(torch.from_numpy, arrays.values())))
    assert_same(list(run_file(path, arrays).values()), [leaf.numpy() for leaf in expected], f"opset {opset}")


@pytest.mark.parametrize("opset", IR_VERSIONS)
@pytest.mark.parametrize("name", KERAS)
def test_a_keras_model_at_every_opset(name: str, opset: int, tmp_path: Path) -> None:
    row, path = KERAS[name], tmp_path / "m.onnx"
    keras.utils.set_random_seed(0)
    model = row.make()
    export(model, path, None if row.declared else row.inputs, opset=opset)
    _check_file(path, opset)
    assert_contract(path, row.inputs)
    arrays = draw(row.inputs, SHAPE, vocabulary=keras_models.VOCABULARY)
    call = callers(model, Arrangement(row.inputs))[0]
    _, expected = flatten_outputs(call([tf.constant(array) for array in arrays.values()]))
    assert_same(list(run_file(path, arrays).values()), [np.asarray(leaf) for leaf in expected], f"opset {opset}")


def test_no_row_was_renamed() -> None:
    assert len(TORCH) == len(KERAS) == 2
