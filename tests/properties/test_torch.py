"""Any drawn PyTorch architecture: exported once, it gives PyTorch's own answers at any shape."""

from __future__ import annotations

from pathlib import Path

import torch
from hypothesis import example, given
from support.checks import assert_contract

from properties.agreement import assert_agree, run_as_declared
from properties.batches import Batch, several
from properties.profiles import examples
from properties.torch_architectures import Architecture, Pack, Recurrent, Unpack, architectures
from properties.torch_builder import build
from seqport.exporters import export

# The proof drew one length for every row of a model whose steps stand before its rows, and took that for a fixed axis.
CUT_TIME_MAJOR = Architecture(
    "ids", 2, (Pack(order="sorted"), Recurrent("rnn", 2, layer=1), Unpack("max")), "steps", time_major=True
)
# And lengths of 0, over which a maximum is -inf.
MAXIMUM_TIME_MAJOR = Architecture("features", 2, (Recurrent("gru", 2),), "max", time_major=True)


@examples(few=10)
@given(architecture=architectures(), batches=several())
@example(CUT_TIME_MAJOR, [Batch((2, 3), 3)])
@example(MAXIMUM_TIME_MAJOR, [Batch((2, 3), 3)])
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
