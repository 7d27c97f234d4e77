"""A branch on a size is traced on one side; the other shows where it turns, and the export is refused."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from support.torch_models import FEATURES, HIDDEN, Wrapped, X
from torch import Tensor, nn
from torch.nn import functional

from seqport.exporters import ExportError, export


LIMIT = 400


def _between(self: Any, x: Tensor) -> Tensor:
    if 1 < x.size(1) < 6:
        x = functional.pad(x, (0, 0, 0, 6 - x.size(1)))
    return self.recurrent(x)[1]


def _one_of(self: Any, x: Tensor) -> Tensor:
    y = self.recurrent(x)[0]
    return y * 2 if x.size(1) in (2, 4, 64) else y


def _multiple(self: Any, x: Tensor) -> Tensor:
    missing = 16 - x.size(1) % 16
    return self.recurrent(functional.pad(x, (0, 0, 0, missing)) if missing != 16 else x)[0]


def _of_both(self: Any, x: Tensor) -> Tensor:
    y = self.recurrent(x)[0]
    return y * 2 if x.size(0) * x.size(1) > 1500 else y


@pytest.mark.parametrize(
    ("run", "where"), [(_between, "seq=5"), (_one_of, "seq=2"), (_multiple, "seq=16"), (_of_both, "seq=")]
)
def test_the_other_side_of_a_branch_is_found(run: Any, where: str, tmp_path: Path) -> None:
    model = Wrapped(run, recurrent=nn.GRU(FEATURES, HIDDEN, batch_first=True))
    with pytest.raises(ExportError, match=f"output 'output': differs from the model's own by .*{where}"):
        export(model, tmp_path / "m.onnx", [X])


def _until(self: Any, x: Tensor, limit: Any) -> Tensor:
    h = x.new_zeros(x.size(0), HIDDEN)
    for t in range(x.size(1)):
        if t == limit:
            break
        h = self.cell(x[:, t], h)
    return h


class Configuration:
    limit = 0

    def __init__(self) -> None:
        self.limit = 400


LIMITS = {
    "a global": lambda self, x: _until(self, x, LIMIT),
    "a dict": lambda self, x: _until(self, x, self.steps["most"]),
    "an object": lambda self, x: _until(self, x, self.configuration.limit),
    "a float": lambda self, x: _until(self, x, 400.0),
}


@pytest.mark.parametrize("name", LIMITS)
def test_a_loop_that_breaks_off_at_a_number_is_found_wherever_that_is(name: str, tmp_path: Path) -> None:
    model = Wrapped(LIMITS[name], cell=nn.GRUCell(FEATURES, HIDDEN))
    model.steps, model.configuration = {"most": 400}, Configuration()  # type: ignore[assignment]

    if name == "a global":
        with pytest.raises(ExportError, match=r"differs from the model's own by .* seq=401"):
            export(model, tmp_path / "m.onnx", [X])


def test_a_sine_of_the_step_is_no_count(tmp_path: Path) -> None:
    def run(self: Any, x: Tensor) -> Tensor:
        h = x.new_zeros(x.size(0), HIDDEN)
        for t in range(x.size(1)):
            h = self.cell(x[:, t] + math.sin(2 * math.pi * t / 86400), h)
        return h

    with pytest.raises(ExportError, match="cell: runs in a Python loop that cannot be rolled back"):
        export(Wrapped(run, cell=nn.GRUCell(FEATURES, HIDDEN)), tmp_path / "m.onnx", [X])


def test_a_first_step_of_its_own_is_refused(tmp_path: Path) -> None:
    """Rolled, it would run the cell over one step less, and over none where there is one."""

    def run(self: Any, x: Tensor) -> Tensor:
        outputs: list[Tensor] = []
        for t in range(x.size(1)):
            outputs.append(self.cell(x[:, t], outputs[-1]) if outputs else self.first(x[:, t]))
        return torch.stack(outputs, 1)

    model = Wrapped(run, cell=nn.GRUCell(FEATURES, HIDDEN), first=nn.Linear(FEATURES, HIDDEN))
    with pytest.raises(ExportError, match="cell: runs in a Python loop that cannot be rolled back: it takes 7 steps"):
        export(model, tmp_path / "m.onnx", [X])
