"""Branches on numbers that were computed from sizes are found, however the code computes and compares them."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from seqport.exporters import ExportError, Input, export

NESTED = argparse.Namespace(deep={"special": {1400: 0.5}})
Branch = Callable[[Any, int], bool]
X, Y = Input("x", ("batch", "seq", 3)), Input("y", ("batch", "other", 3))


class Looped(nn.Module):
    """A loop over time, and half of its answer where a branch on the steps says so."""

    gains = (1.0, 1.0, 1.0, 0.5, 0.25, 0.1, 0.1, 0.1, 0.1)
    part = 20

    def __init__(
        self, branch: Branch = lambda _, steps: steps < 0, gain: Callable[[Any, int], float] | None = None
    ) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.cell, self.branch, self.gain = nn.GRUCell(3, 4), branch, gain

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(x.size(0), 4)
        for t in range(x.size(1)):
            h = self.cell(x[:, t] * (self.gain(self, t) if self.gain else 1), h)
        return h * 0.5 if self.branch(self, x.size(1)) else h


def _grown(_: Any, steps: int) -> bool:
    """A number that is made of itself again and again."""
    for _again in range(16):
        steps = steps + steps // 2
    return steps > 200_000


BRANCHES: dict[str, Branch] = {
    "a power of two": lambda _, steps: steps.bit_length() > 9,
    "a whole root": lambda _, steps: math.isqrt(steps) >= 20,
    "a logarithm to a base": lambda _, steps: math.log(steps, 2) > 8.7,
    "a rounded part": lambda _, steps: round(steps / 100, 1) > 4.0,
    "a remainder of Python's": lambda _, steps: math.remainder(steps, 1000) < -400,
    "bits of a square": lambda _, steps: bool((steps**2) & (1 << 19)),
    "beyond 64 bits": lambda _, steps: steps * 10**20 > 400 * 10**20,
    "a whole quotient": lambda self, steps: (steps / (self.part * self.part)).is_integer(),
    "digits": lambda _, steps: len(str(steps)) > 3,
    "a key of text": lambda _, steps: {"0": False, "1": False}.get(f"{steps // 256}", True),
    "a remainder behind a bound": lambda _, steps: steps > 100 and steps % 7 == 0,
    "the type of a number": lambda self, steps: type(steps) is int and steps > self.part * self.part,
    "grown by itself": _grown,
}
GAINS: dict[str, Callable[[Any, int], float]] = {
    "a key far below a name": lambda _, t: NESTED.deep["special"].get(t, 1.0),
    "an item of a list": lambda self, t: self.gains[t // 128],
    "an item again and again": lambda self, t: self.gains[3 * (t % (self.part * self.part) == 399)],
}


@pytest.mark.parametrize("name", BRANCHES)
def test_a_branch_on_a_computed_size_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"turns|seq=40|holds for"):
        export(Looped(BRANCHES[name]).eval(), tmp_path / "m.onnx", [X])


@pytest.mark.parametrize("name", GAINS)
def test_a_choice_by_a_computed_step_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="turns"):
        export(Looped(gain=GAINS[name]).eval(), tmp_path / "m.onnx", [X])


class Counted(nn.Module):
    """Goes on while a number that it counts itself says so."""

    def __init__(self, start: float, count: Callable[[Any, Any], Any], goes: Callable[[Any], bool]) -> None:
        super().__init__()
        self.cell, self.count, self.goes, self.start = nn.GRUCell(3, 4), count, goes, start
        self.hop, self.one = 0.02, 1

    def forward(self, x: Tensor) -> Tensor:
        h, counter = x.new_zeros(x.size(0), 4), self.start
        for t in range(x.size(1)):
            counter = self.count(self, counter)
            h = self.cell(x[:, t], h) if self.goes(counter) else h
        return h


# Each far beyond the steps that a loop is run over whatever it notes.
COUNTERS: dict[str, tuple[float, Callable[[Any, Any], Any], Callable[[Any], bool]]] = {
    "seconds of the code": (0.0, lambda _, seconds: seconds + 0.02, lambda seconds: seconds < 30),
    "seconds of the module": (0.0, lambda self, seconds: seconds + self.hop, lambda seconds: seconds < 30),
    "a budget": (30.0, lambda self, left: left - self.hop, lambda left: left > 0),
    "steps of the module": (0, lambda self, steps: steps + self.one, lambda steps: steps < 30 * 50),
    "a decay": (1.0, lambda _, gain: gain * 0.999, lambda gain: gain > 0.2),
    "a gain that ends": (0.0, lambda _, gain: min(gain + 0.02, 30.0), lambda gain: gain < 30),
}


@pytest.mark.parametrize("name", COUNTERS)
def test_a_counter_that_turns_something_is_refused(name: str, tmp_path: Path) -> None:
    model = Counted(*COUNTERS[name]).eval()
    before = {key: (type(value), value) for key, value in vars(model).items() if isinstance(value, (int, float))}
    with pytest.raises(ExportError, match="turns"):
        export(model, tmp_path / "m.onnx", [X])
    assert {key: (type(vars(model)[key]), vars(model)[key]) for key in before} == before


SILENT: dict[str, Callable[[Any], bool]] = {
    "a decimal": lambda steps: Decimal(steps) <= 350,
    "an array": lambda steps: bool(np.array([steps])[0] <= 350),
    "bytes": lambda steps: steps.to_bytes(2, "big")[0] <= 1,
    "a letter": lambda steps: chr(steps) <= "\u015e",
}


@pytest.mark.parametrize("name", SILENT)
def test_a_loop_whose_numbers_leave_python_is_tried_far_away(name: str, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="seq=1025"):
        export(Counted(0, lambda _, steps: steps + 1, SILENT[name]).eval(), tmp_path / "m.onnx", [X])


class Cut(nn.Module):
    """Takes so many steps only, a number that is nowhere written, beyond those that every loop is run over."""

    def __init__(self, cut: Callable[[Tensor, int], Any]) -> None:
        super().__init__()
        self.cell, self.cut, self.part = nn.GRUCell(3, 4), cut, 40

    def forward(self, x: Tensor) -> Tensor:
        h, steps = x.new_zeros(x.size(0), 4), []
        for _, now in zip(self.cut(x, self.part * self.part), x.unbind(1), strict=False):
            h = self.cell(now, h)
            steps.append(h)
        return torch.stack(steps, 1)


CUTS: dict[str, Callable[[Tensor, int], Any]] = {
    "a slice": lambda x, most: x[:, :most].unbind(1),
    "numbers of a tensor": lambda x, most: x.new_zeros(most),
}


@pytest.mark.parametrize("name", CUTS)
def test_a_cut_at_a_computed_number_is_refused(name: str, tmp_path: Path) -> None:
    assert export(Cut(lambda *_: range(10_000)).eval(), tmp_path / "m.onnx", [X]).path.exists()
    with pytest.raises(ExportError, match=r"seq=1601|1600 at most"):
        export(Cut(CUTS[name]).eval(), tmp_path / "m.onnx", [X])


class Two(nn.Module):
    def __init__(self, branch: Callable[[int, int], bool]) -> None:
        super().__init__()
        self.layer, self.branch = nn.GRU(3, 4, batch_first=True), branch

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        h = self.layer(x)[1][0] + y.sum(1).mean(-1, keepdim=True)
        return h * 0.5 if self.branch(x.size(1), y.size(1)) else h


TOGETHER: dict[str, Callable[[int, int], bool]] = {
    "a difference": lambda n, m: n - m > 500,
    "both at once": lambda n, m: n % 50 == 0 and m % 50 == 0,
    "a pair": lambda n, m: (n, m) == (105, 105),
    "alike behind a bound": lambda n, m: n > 100 and n == m,
}


@pytest.mark.parametrize("name", TOGETHER)
def test_a_branch_on_two_sizes_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="turns"):
        export(Two(TOGETHER[name]).eval(), tmp_path / "m.onnx", [X, Y])


class Strict(Looped):
    """Fails at numbers that are no plain ints."""

    def forward(self, x: Tensor) -> Tensor:
        if str(x.size(1).__class__.__name__) not in ("int", "SymInt"):
            raise TypeError("a plain int is wanted")
        return super().forward(x)


def test_a_loop_that_cannot_be_noted_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"turns cannot be found, because its code fails .*a plain int is wanted"):
        export(Strict().eval(), tmp_path / "m.onnx", [X])
