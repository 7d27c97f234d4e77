"""Any drawn PyTorch architecture: exported once, it gives PyTorch's own answers at any shape."""

from __future__ import annotations

from pathlib import Path

import torch
from hypothesis import given
from support.checks import assert_contract

from properties.agreement import assert_agree, run_as_declared
from properties.batches import Batch, several
from properties.profiles import examples
from properties.torch_architectures import Architecture, architectures
from properties.torch_builder import build
from seqport.exporters import export


@examples(few=12)
@given(architecture=architectures(), batches=several())
def test_an_exported_module_gives_pytorchs_answers(
    folder: Path, architecture: Architecture, batches: list[Batch]
) -> None:
    check(architecture, batches, folder / "torch.onnx")


def check(architecture: Architecture, batches: list[Batch], path: Path) -> None:
    """Export once, compare at every batch."""
    model = build(architecture)
    export(model, path, architecture.inputs)
    assert_contract(path, architecture.inputs)
    for batch in batches:
        arrays = batch.arrays(architecture.inputs, sorted_rows=architecture.sorted_rows)
        with torch.no_grad():
            answers = model(*(torch.from_numpy(array) for array in arrays.values()))
        expected = [leaf.numpy() for leaf in (answers if isinstance(answers, tuple) else (answers,))]
        assert_agree(run_as_declared(path, architecture.inputs, arrays), expected, batch)
