"""Any user's PyTorch module: native nodes, dynamic axes, and PyTorch's own answers at shapes never traced."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.checks import SHAPES, assert_contract, assert_same, draw, native_nodes, run_file
from support.torch_models import VOCABULARY
from support.torch_rows import Row, rows
from torch.utils import _pytree as pytree

from seqport.exporters import export

ROWS = rows()


@pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
def test_exported_module_gives_pytorchs_answers(row: Row, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = row.make().eval()
    path = tmp_path / "model.onnx"
    artifact = export(model, path, row.inputs)
    assert_contract(path, row.inputs)
    layers = sum(m.num_layers for m in model.modules() if isinstance(m, torch.nn.RNNBase))
    assert len(native_nodes(path)) >= layers
    assert artifact.description.convention == "pytorch"
    for shape in SHAPES:
        arrays = draw(row.inputs, shape, vocabulary=VOCABULARY, sorted_rows=row.sorted_rows)
        with torch.no_grad():
            expected = [leaf for leaf in pytree.tree_leaves(_called(model, row, arrays)) if leaf is not None]
        found = list(run_file(path, arrays).values())
        assert_same(found, [leaf.numpy() for leaf in expected], f"{row.name} at {shape}")


def _called(model: torch.nn.Module, row: Row, arrays: dict[str, np.ndarray]) -> Any:
    """The module's own answers; a row says by its name where its inputs come in a tuple or dict."""
    tensors = {item.name: torch.from_numpy(arrays[item.name]) for item in row.inputs}
    if row.name == "batch-in-a-dict":
        return model(tensors)
    if row.name == "state-in-a-tuple":
        return model(tensors["x"], (tensors["h_0"], tensors["c_0"]))
    return getattr(model, "_orig_mod", model)(*tensors.values())
