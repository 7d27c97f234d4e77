"""A given state that a mask holds is the output until a step moves it, and of rows without any step."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from support.checks import assert_contract, assert_same, draw, native_nodes, run_file
from support.torch_held import LOOPS
from support.torch_models import VOCABULARY, Wrapped

from seqport.exporters import export

# Padding on the right, on the left, on both sides, none, holes, and no step at all.
MASKS = {
    "mask": np.array(["1110000", "0001111", "0110000", "1111111", "0101001", "0000000"]),
    "lengths": np.array([3, 1, 6, 7, 2, 0]),
}
SHAPES = ((6, 7), (6, 12), (1, 1))


@pytest.mark.parametrize("name", LOOPS)
def test_a_held_state_is_given_out_before_any_step_moves_it(name: str, tmp_path: Path) -> None:
    run, inputs, parts = LOOPS[name]
    torch.manual_seed(0)
    model = Wrapped(run, **{key: make() for key, make in parts.items()}).eval()
    artifact = export(model, tmp_path / "m.onnx", inputs)
    assert_contract(tmp_path / "m.onnx", inputs)
    (node,) = native_nodes(tmp_path / "m.onnx")
    assert artifact.description.recurrent[0].padded_outputs == "state"
    assert artifact.description.recurrent[0].direction == ("reverse" if name.endswith("backwards") else "forward")
    assert node.input[4], "sequence_lens"
    for batch, seq in SHAPES:
        arrays = draw(inputs, (batch, seq), vocabulary=VOCABULARY)
        if "lengths" in arrays:
            arrays["lengths"] = np.minimum(MASKS["lengths"][-batch:], seq)
        else:
            rows = [[step == "1" for step in row.ljust(seq, "0")[:seq]] for row in MASKS["mask"][-batch:]]
            arrays["mask"] = np.array(rows)
        with torch.no_grad():
            expected = model(*(torch.from_numpy(arrays[item.name]) for item in inputs))
        found = list(run_file(tmp_path / "m.onnx", arrays).values())
        assert_same(found, [value.numpy() for value in expected], f"{name} at {batch, seq}")
