"""A branch on a size is traced on one side; the other shows where it turns, and the export is refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.torch_models import FEATURES, HIDDEN, LENGTHS, X_TIME_MAJOR, Wrapped, X
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import rnn

from seqport.exporters import ExportError, Input, export

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


def _scaled(test: Callable[[Tensor], bool]) -> Callable[..., Any]:
    return lambda self, x: self.recurrent(x)[0] * (2 if test(x) else 1)


BRANCHES: dict[str, tuple[Callable[..., Any], str]] = {
    "between": (_between, "seq=2, next to where test_branches_on_sizes.py"),
    "one of": (_one_of, "seq=2"),
    "a multiple": (_multiple, "seq=16"),
    "of both": (_of_both, "seq="),
    "a float": (_scaled(lambda x: x.size(1) * 0.02 > 8.0), "seq=401"),
    "a product": (_scaled(lambda x: x.size(0) * x.size(1) > 8192), "seq=1639"),
    "a square": (_scaled(lambda x: x.size(1) ** 2 > 160_000), "seq=401"),
    "rounded up": (_scaled(lambda x: math.ceil(x.size(1) / 8) > 50), "seq=401"),
    "beyond the grid": (_scaled(lambda x: x.size(1) * 0.01 > 100), "seq=10001"),
}


@pytest.mark.parametrize("name", BRANCHES)
def test_the_other_side_of_a_branch_is_found(name: str, tmp_path: Path) -> None:
    run, where = BRANCHES[name]
    model = Wrapped(run, recurrent=nn.GRU(FEATURES, HIDDEN, batch_first=True))
    with pytest.raises(ExportError, match=f"output 'output': differs from the model's own by .*{where}"):
        export(model, tmp_path / "m.onnx", [X])


UNPACKED: dict[str, tuple[Callable[[Tensor, Tensor], bool], str]] = {
    "a remainder": (lambda y, _: y.size(1) % 5 == 0, "seq="),
    "beside the axis": (lambda y, x: y.size(1) + 40 < x.size(1), "seq=60"),
}


@pytest.mark.parametrize("name", UNPACKED)
def test_a_branch_on_the_longest_length_is_found(name: str, tmp_path: Path) -> None:
    test, where = UNPACKED[name]

    def run(self: Any, x: Tensor, lengths: Tensor) -> Tensor:
        packed = rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        y, _ = rnn.pad_packed_sequence(self.recurrent(packed)[0], batch_first=True)
        return y * (2 if test(y, x) else 1)

    model = Wrapped(run, recurrent=nn.GRU(FEATURES, HIDDEN, batch_first=True))
    with pytest.raises(ExportError, match=f"output 'output': differs from the model's own by .*{where}"):
        export(model, tmp_path / "m.onnx", [X, LENGTHS])


def _until(self: Any, x: Tensor, limit: Any) -> Tensor:
    h = x.new_zeros(x.size(0), HIDDEN)
    for t in range(x.size(1)):
        if t == limit:
            break
        h = self.cell(x[:, t], h)
    return h


def _time_major(self: Any, x: Tensor, lengths: Tensor) -> Tensor:
    h = x.new_zeros(x.size(1), HIDDEN)
    for t in range(x.size(0)):
        if t == 350:
            break
        h = torch.where((t < lengths)[:, None], self.cell(x[t], h), h)
    return h


def _capped(self: Any, x: Tensor, lengths: Tensor) -> Tensor:
    h = x.new_zeros(x.size(0), HIDDEN)
    for t in range(x.size(1)):
        if t == 25:
            break
        h = torch.where((t < lengths)[:, None], self.cell(x[:, t], h), h)
    return h


def _until_the_longest(self: Any, x: Tensor, lengths: Tensor) -> Tensor:
    h = x.new_zeros(x.size(0), HIDDEN)
    for t in range(int(lengths.max())):
        if t > LIMIT:
            break
        h = torch.where((t < lengths)[:, None], self.cell(x[:, t], h), h)
    return h


def _sliced(self: Any, x: Tensor) -> Tensor:
    h = x.new_zeros(x.size(0), HIDDEN)
    for step in x.unbind(1)[: self.most]:
        h = self.cell(step, h)
    return h


def _fifth(self: Any, x: Tensor) -> Tensor:
    h = _until(self, x, None)
    return h * 2 if x.size(1) % 5 == 0 else h


ENDS: dict[str, tuple[Callable[..., Any], tuple[Input, ...], str]] = {
    "a global": (lambda self, x: _until(self, x, LIMIT), (X,), "seq=401, next to where test_branches_on_sizes.py"),
    "one step later": (lambda self, x: _until(self, x, LIMIT + 1), (X,), "seq=402"),
    "a slice": (_sliced, (X,), "seq=1025"),
    "the number of steps": (_fifth, (X,), "seq=10, next to where test_branches_on_sizes.py"),
    "time-major": (_time_major, (X_TIME_MAJOR, LENGTHS), "seq=351"),
    "the longest length": (_until_the_longest, (X, LENGTHS), "seq=402"),
}


@pytest.mark.parametrize("name", ENDS)
def test_a_loop_that_ends_at_a_number_is_found_wherever_that_is(name: str, tmp_path: Path) -> None:
    run, inputs, where = ENDS[name]
    model = Wrapped(run, cell=nn.GRUCell(FEATURES, HIDDEN))
    model.most = LIMIT  # type: ignore[assignment]
    with pytest.raises(ExportError, match=f"differs from the model's own by .*{where}"):
        export(model, tmp_path / "m.onnx", inputs)


def test_an_example_of_lengths_caps_no_probe(tmp_path: Path) -> None:
    model = Wrapped(_capped, cell=nn.GRUCell(FEATURES, HIDDEN))
    with pytest.raises(ExportError, match=r"differs from the model's own by .*seq=307"):
        export(model, tmp_path / "m.onnx", [X, LENGTHS], example={"lengths": np.array([9, 4])})


def test_an_axis_ends_where_a_loop_may_end_beyond_what_is_tried(tmp_path: Path) -> None:
    model = Wrapped(lambda self, x: _until(self, x, 100_000), cell=nn.GRUCell(FEATURES, HIDDEN))
    description = export(model, tmp_path / "m.onnx", [X]).description
    assert description.limits == {"seq": (1, 100_000)}


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
