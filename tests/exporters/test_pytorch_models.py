"""Any user's PyTorch module: native nodes, dynamic axes, and PyTorch's own answers at shapes never traced."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from support import torch_attention, torch_lengths, torch_structures
from support.checks import SHAPES, assert_contract, assert_same, draw, native_nodes, run_file
from support.torch_models import VOCABULARY
from support.torch_rows import Row, rows

from seqport.exporters import export

ROWS = rows() + torch_attention.rows() + torch_lengths.rows() + torch_structures.rows()


@pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
def test_exported_module_gives_pytorchs_answers(row: Row, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = row.make().eval()
    path = tmp_path / "model.onnx"
    artifact = export(model, path, row.nested or row.inputs)
    assert_contract(path, row.inputs)
    layers = sum(m.num_layers for m in model.modules() if isinstance(m, torch.nn.RNNBase))
    assert len(native_nodes(path)) >= layers
    assert artifact.description.convention == "pytorch"
    for shape in SHAPES:
        arrays = draw(row.inputs, shape, vocabulary=VOCABULARY, sorted_rows=row.sorted_rows, shortest=row.shortest)
        assert_same(list(run_file(path, arrays).values()), row.answers(model, arrays), f"{row.name} at {shape}")
