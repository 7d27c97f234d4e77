"""An axis that the model does not take at every size: measured, written into the artifact, named by the runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.torch_models import FEATURES, HIDDEN, LENGTHS, Wrapped, X
from support.torch_structures import Positions, first_twenty, from_the_third
from torch import Tensor, nn

from seqport.exporters import ExportError, Input, export
from seqport.runtime import Session, read_description
from seqport.runtime.errors import InputSizeError


def _gru(run: Any) -> nn.Module:
    return Wrapped(run, recurrent=nn.GRU(FEATURES, HIDDEN, batch_first=True))


def _feed(seq: int) -> dict[str, np.ndarray]:
    return {"x": np.ones((2, seq, FEATURES), np.float32), "lengths": np.array([seq, 1])}


@pytest.mark.parametrize("table", [True, False], ids=["table", "parameter"])
def test_a_table_of_positions_bounds_the_steps(table: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    path = export(Positions(table).eval(), tmp_path / "m.onnx", [X, LENGTHS]).path
    assert read_description(path).limits == {"seq": (1, 40)}
    session = Session(path, provider="cpu")
    assert session.run(_feed(40))["output"].shape == (2, 40, HIDDEN)
    with pytest.raises(InputSizeError, match=r"axis 'seq' is 41, and the model takes 1 to 40 .*: split or cut"):
        session.run(_feed(41))


def test_a_slice_that_leaves_no_steps_is_named_before_onnx_runtime_sees_it(tmp_path: Path) -> None:
    path = export(_gru(from_the_third), tmp_path / "m.onnx", [X]).path
    assert read_description(path).limits == {"seq": (3, None)}
    session = Session(path, provider="cpu")
    x = _feed(3)["x"]
    assert session.run({"x": x})["output"].shape == (2, 1, HIDDEN)
    with pytest.raises(InputSizeError, match=r"axis 'seq' is 2, and the model takes at least 3 .*: pad"):
        session.run({"x": x[:, :2]})


def test_a_slice_of_the_first_steps_bounds_nothing(tmp_path: Path) -> None:
    artifact = export(_gru(first_twenty), tmp_path / "m.onnx", [X, LENGTHS])
    assert artifact.description.limits == {}
    assert artifact.description.outputs[0].axes[1] != "seq"  # 20 where there are more


def _branch(self: Any, x: Tensor, lengths: Tensor) -> Tensor:
    if x.size(1) > 50:
        x = x * 2
    return self.recurrent(x)[1] + lengths.sum()


def test_a_trace_that_ends_where_the_model_goes_on_is_refused(tmp_path: Path) -> None:
    message = r"one side of a Python branch: it holds for 'seq' of 50 at most; write the branch with a slice"
    with pytest.raises(ExportError, match=message):
        export(_gru(_branch), tmp_path / "m.onnx", [X, LENGTHS])
    assert not list(tmp_path.iterdir())


class Masked(torch.nn.Module):
    """Refuses a row without a valid step, of whatever size."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = torch.nn.GRU(4, 6, batch_first=True)

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        lengths = mask.sum(1).cpu()
        packed = torch.nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        return self.gru(packed)[1][0]


def test_a_mask_without_a_step_proves_no_limit(tmp_path: Path) -> None:
    """One step of a mask that is all False is refused for the mask, not for the size."""
    inputs = [Input("x", ("batch", "seq", 4)), Input("mask", ("batch", "seq"), "bool")]
    path = export(Masked().eval(), tmp_path / "m.onnx", inputs=inputs, outputs=["h"]).path
    session = Session(path, "cpu")
    assert session.description.limits == {}
    one = {"x": np.ones((2, 1, 4), np.float32), "mask": np.ones((2, 1), bool)}
    assert session.run(one)["h"].shape == (2, 6)
