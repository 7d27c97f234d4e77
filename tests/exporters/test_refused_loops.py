"""Loops over time without a native form are refused with the layer, the cause and the remedy, never baked in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.torch_models import Wrapped
from support.torch_refused_loops import LOOPS

from seqport.exporters import ExportError, export

ROLLED = "runs in a Python loop that cannot be rolled back"
ONE_STEP = ".*export one step .*run the loop around it"
MESSAGES = {
    "c at each step": f"cell: {ROLLED}: its cell state c is read at each step, .*read the hidden states, or the last",
    "attention": f"cell: {ROLLED}: what goes into it at a step is computed from what came out{ONE_STEP}",
    "greedy": f"cell: {ROLLED}: what goes into it at a step is computed from what came out{ONE_STEP}",
    "twice the longest": f"cell: {ROLLED}: it runs 2 times a step",
    "branch on the longest": "differs from the model's own by .*seq=47",
    "branch on their maximum": "differs from the model's own by .*seq=44",
    "longest in arithmetic": "differs from the model's own by .*seq=13",
    "shrinking batch": f"cell: {ROLLED}: its state changes between the steps by more than a mask",
    "a row at a time": "the model: reads values of a tensor as Python numbers",
    "zoneout": f"cell: {ROLLED}: its state changes between the steps by more than a mask .*Add, Mul{ONE_STEP}",
    "normalised": f"cell: {ROLLED}: its state changes between the steps by more than a mask .LayerNorm{ONE_STEP}",
    "minimal": f"h2h: {ROLLED}: it is no RNN, GRU or LSTM .its new state is Sigmoid{ONE_STEP}",
    "columns": f"h2h, x2h: {ROLLED}: it is no RNN, GRU or LSTM{ONE_STEP}",
    "stops early": "the model: holds for 'seq' of 400 at most: .*run the loop over the whole axis",
    "breaks off": "differs from the model's own by .*seq=401",
    "every other state": f"cell: {ROLLED}: .* not one computation at each step",
    "reset in holes": f"cell: {ROLLED}: a mask sets its state to zero at steps that are not known to be the last",
    "scripted cell": "cell: is a torch.jit.RecursiveScriptModule, .*the nn.Module that it was scripted",
    "whole numbers": f"cell: {ROLLED}: its state is held by 'remainder.*' .Mod., whole numbers that need not be 0 ",
    "a part of the ids": f"cell: {ROLLED}: its state is held by a part of 'ids', .*make the mask an input of its own",
    "soft gate": "cell: is held by 'mask', numbers that need not be 0 and 1.*declare 'mask' as bool",
}


@pytest.mark.parametrize("name", LOOPS)
def test_loop_is_refused_with_layer_cause_and_remedy(
    name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run, inputs, parts = LOOPS[name]
    model = Wrapped(run, **{key: make() for key, make in parts.items()}).eval()
    with pytest.raises(ExportError, match=f"(?s){MESSAGES[name]}") as refused:
        export(model, tmp_path / "m.onnx", inputs)
    assert refused.value.__cause__ is not refused.value  # whoever walks the causes comes to an end
    assert not list(tmp_path.iterdir())
    assert capfd.readouterr() == ("", ""), "the reason stands in the error, and nothing beside it is printed"


def test_a_mask_of_floats_is_taken_where_the_example_says_zeros_and_ones(tmp_path: Path) -> None:
    run, inputs, parts = LOOPS["soft gate"]
    model = Wrapped(run, **{key: make() for key, make in parts.items()}).eval()
    artifact = export(model, tmp_path / "m.onnx", inputs, example={"mask": np.array([[1.0, 0.0]], np.float32)})
    assert artifact.description.zeros_and_ones == ("mask",)
