"""A mask that comes as numbers is one only if they are 0 and 1: the artifact says so, and the runtime looks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.checks import assert_same
from support.torch_models import FEATURES, HIDDEN, Wrapped, X
from torch import Tensor, nn

from seqport.exporters import Input, export
from seqport.runtime import InputValueError, Session

# What a module makes of its mask, the mask's type, and whether only 0 and 1 make a mask of that.
MASKS: dict[str, tuple[Callable[[Tensor], Tensor], str, bool]] = {
    "int64": (lambda mask: mask, "int64", True),
    "int32": (lambda mask: mask, "int32", True),
    "converted": (lambda mask: mask.float(), "int64", True),
    "inverted": (lambda mask: 1 - mask, "int64", True),
    "two-of-them": (lambda mask: mask * (mask.sum(1, keepdim=True) > 1), "int64", True),
    "tested": (lambda mask: (mask != 0).long(), "int64", False),
    "bool": (lambda mask: mask.bool().float(), "int32", False),
    "clamped": (lambda mask: mask.float().clamp(0, 1), "int64", False),
}


def _model(made: Callable[[Tensor], Tensor]) -> Wrapped:
    def run(self: Any, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        h, outputs, kept = x.new_zeros(x.size(0), HIDDEN), [], made(mask)
        for t in range(x.size(1)):
            m = kept[:, t, None]
            h = m * self.cell(x[:, t], h) + (1 - m) * h
            outputs.append(h)
        return torch.stack(outputs, 1), h

    torch.manual_seed(0)
    return Wrapped(run, cell=nn.GRUCell(FEATURES, HIDDEN)).eval()


@pytest.mark.parametrize("name", MASKS)
def test_a_mask_of_numbers_is_exact_or_refused_where_it_is_run(name: str, tmp_path: Path) -> None:
    made, dtype, only_zeros_and_ones = MASKS[name]
    model = _model(made)
    artifact = export(model, tmp_path / "m.onnx", [X, Input("mask", ("batch", "seq"), dtype)])
    assert artifact.description.zeros_and_ones == (("mask",) if only_zeros_and_ones else ())
    session = Session(tmp_path / "m.onnx", provider="cpu")
    x = np.random.default_rng(0).standard_normal((2, 4, FEATURES)).astype(np.float32)
    for values in ([[0, 1, 1, 0], [1, 0, 0, 1]], [[0, 1, 2, 0], [1, 0, 0, 3]]):
        mask = np.array(values, dtype)
        if only_zeros_and_ones and mask.max() > 1:
            with pytest.raises(InputValueError, match=r"'mask' holds 2 at \[0, 2\], expected 0 or 1"):
                session.run({"x": x, "mask": mask})
            continue
        with torch.no_grad():
            expected = model(torch.from_numpy(x), torch.from_numpy(mask))
        assert_same(list(session.run({"x": x, "mask": mask}).values()), [v.numpy() for v in expected], name)
