"""Modules whose layers cannot be opened, and forwards that read values in Python: refused with what to do instead."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support.torch_models import FEATURES, HIDDEN, LENGTHS, Wrapped, X
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from seqport.exporters import ExportError, export


def _lstm() -> nn.Module:
    return nn.LSTM(FEATURES, HIDDEN, batch_first=True).eval()


def _answer(self: Any, x: Tensor) -> Tensor:
    return self.recurrent(x)[0]


def _scripted_part() -> nn.Module:
    return Wrapped(_answer, recurrent=torch.jit.script(_lstm()))


def _exported() -> Any:
    return torch.export.export(_lstm(), (torch.zeros(3, 4, FEATURES),))


def _quantized() -> nn.Module:
    return torch.ao.quantization.quantize_dynamic(Wrapped(_answer, recurrent=_lstm()), {nn.LSTM}, torch.qint8)


CASES: dict[str, tuple[Callable[[], Any], str]] = {
    "scripted": (lambda: torch.jit.script(_lstm()), "the model: is a torch.jit.RecursiveScriptModule, .*nn.Module"),
    "a scripted part": (_scripted_part, "recurrent: is a torch.jit.RecursiveScriptModule, .*that it was scripted"),
    "exported": (_exported, "the model: is what torch.export made, .*export the nn.Module that was given to"),
    "an exported module": (lambda: _exported().module(), "the model: is what torch.export made"),
    "quantized": (_quantized, "recurrent: is a torch.ao.nn.quantized.*LSTM, .*float module that it was quantized from"),
}


@pytest.mark.parametrize("name", CASES)
def test_a_compiled_module_is_refused_with_what_to_pass_instead(name: str, tmp_path: Path) -> None:
    make, message = CASES[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch deprecates two of the three
        model = make()
    with pytest.raises(ExportError, match=message):
        export(model, tmp_path / "m.onnx", [X])
    assert not list(tmp_path.iterdir())


def _rows_in_a_loop(self: Any, x: Tensor, lengths: Tensor) -> Tensor:
    y = self.recurrent(x)[0]
    return torch.stack([y[row, length - 1] for row, length in enumerate(lengths)])


def _mask_in_a_loop(self: Any, x: Tensor, lengths: Tensor) -> Tensor:
    mask = torch.zeros(x.size(0), x.size(1))
    for row, length in enumerate(lengths):
        mask[row, :length] = 1
    return self.recurrent(x)[0] * mask[..., None]


def _sorted_by_numpy(self: Any, x: Tensor, lengths: Tensor) -> Tensor:
    order = (-lengths.numpy()).argsort()
    return self.recurrent(pack_padded_sequence(x[order], lengths[order], batch_first=True))[1]


IN_PYTHON = {
    "rows": (_rows_in_a_loop, r"fixes axis 'batch' of input 'x' .*y\[torch.arange\(y.size\(0\)\), lengths - 1\]"),
    "a mask": (_mask_in_a_loop, r"\(at test_refusals_compiled.py:\d+, mask\[row, :length\] = 1\).*a loop over lengths"),
    "numpy": (_sorted_by_numpy, "reads values of a tensor as Python numbers"),
}


@pytest.mark.parametrize("name", IN_PYTHON)
def test_a_loop_over_rows_is_refused_with_its_line_and_the_tensor_for_it(name: str, tmp_path: Path) -> None:
    run, message = IN_PYTHON[name]
    model = Wrapped(run, recurrent=nn.GRU(FEATURES, HIDDEN, batch_first=True))
    with pytest.raises(ExportError, match=message):
        export(model, tmp_path / "m.onnx", [X, LENGTHS])
