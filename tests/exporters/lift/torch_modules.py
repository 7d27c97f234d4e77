"""Cells in loops as PyTorch users write them; a script of its own, whose source torch.jit.script can read.

Usage: python torch_modules.py FOLDER. Writes FOLDER/NAME.onnx for every module.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

FEATURES, HIDDEN, SEQ = 3, 4, 5


class ScriptedLSTM(nn.Module):
    """Lengths gate the states; outputs are zero in the padding."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(FEATURES, HIDDEN)
        self.size = HIDDEN

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        h = torch.zeros(x.size(0), self.size)
        c = torch.zeros(x.size(0), self.size)
        outputs: list[Tensor] = []
        for t in range(x.size(1)):
            new_h, new_c = self.cell(x[:, t], (h, c))
            valid = (t < lengths).unsqueeze(1)
            h, c = torch.where(valid, new_h, h), torch.where(valid, new_c, c)
            outputs.append(torch.where(valid, new_h, torch.zeros_like(new_h)))
        return torch.stack(outputs, 1), h, c


class ScriptedGRU(nn.Module):
    """Written out by hand, time-major, with an initial state and the states as outputs; a mask of 0 and 1."""

    def __init__(self) -> None:
        super().__init__()
        self.from_x, self.from_h = nn.Linear(FEATURES, 3 * HIDDEN), nn.Linear(HIDDEN, 3 * HIDDEN)

    def forward(self, x: Tensor, mask: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        outputs: list[Tensor] = []
        for t in range(x.size(0)):
            x_r, x_z, x_n = self.from_x(x[t]).chunk(3, dim=1)
            h_r, h_z, h_n = self.from_h(h).chunk(3, dim=1)
            z = torch.sigmoid(x_z + h_z)
            n = torch.tanh(x_n + torch.sigmoid(x_r + h_r) * h_n)
            m = mask[:, t].float().unsqueeze(1)
            h = m * (n + z * (h - n)) + (1 - m) * h
            outputs.append(h)
        return torch.stack(outputs), h


class ScriptedBackward(nn.Module):
    """From the last step to the first, with a head in the loop."""

    def __init__(self) -> None:
        super().__init__()
        self.from_x, self.from_h = nn.Linear(FEATURES, HIDDEN), nn.Linear(HIDDEN, HIDDEN, bias=False)
        self.before, self.head = nn.Linear(FEATURES, FEATURES), nn.Linear(HIDDEN, 2)
        self.size = HIDDEN

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = torch.zeros(x.size(0), self.size)
        outputs: list[Tensor] = []
        for t in range(x.size(1)):
            step = torch.relu(self.before(x[:, x.size(1) - 1 - t]))
            h = torch.relu(self.from_x(step) + self.from_h(h))
            outputs.append(torch.sigmoid(self.head(h)))
        return torch.stack(outputs, 1), h


class Layer(nn.Module):
    """nn.RNN, which the default exporter unrolls."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.rnn = nn.RNN(FEATURES, HIDDEN, batch_first=True, **options)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.rnn(x)


class Cells(nn.Module):
    """A cell in a Python loop, which both exporters unroll."""

    def __init__(self, cell: nn.Module, *, backward: bool = False) -> None:
        super().__init__()
        self.cell, self.backward = cell, backward

    def forward(self, x: Tensor, initial: Tensor) -> tuple[Tensor, Tensor]:
        lstm = isinstance(self.cell, nn.LSTMCell)
        state: Any = (initial, initial) if lstm else initial
        outputs = []
        steps = range(x.size(1))
        for t in reversed(steps) if self.backward else steps:
            state = self.cell(x[:, t], state)
            outputs.append(state[0] if lstm else state)
        return torch.stack(outputs, 1), state[1] if lstm else state


def main(folder: Path) -> None:
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    x, initial = torch.randn(2, SEQ, FEATURES), torch.randn(2, HIDDEN)
    mask, lengths = torch.ones(2, SEQ, dtype=torch.bool), torch.tensor([SEQ, 3])
    _scripted(folder / "scripted-lstm", ScriptedLSTM(), (x, lengths))
    _scripted(folder / "scripted-gru+time_major", ScriptedGRU(), (x.transpose(0, 1), mask, initial))
    _scripted(folder / "scripted-backward", ScriptedBackward(), (x,))
    for name, cell in (("rnn", nn.RNNCell), ("gru", nn.GRUCell), ("lstm", nn.LSTMCell)):
        if name != "rnn":  # nn.RNN itself is unrolled below
            _dynamo(folder / f"dynamo-{name}", Cells(cell(FEATURES, HIDDEN)), (x, initial))
        _traced(folder / f"traced-{name}", Cells(cell(FEATURES, HIDDEN), backward=name == "gru"), (x, initial))
    _dynamo(folder / "dynamo-layers", Layer(num_layers=2, bidirectional=True, nonlinearity="relu"), (x,))


def _scripted(path: Path, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    _traced(path, torch.jit.script(module.eval()), inputs)


def _traced(path: Path, module: Any, inputs: tuple[Tensor, ...]) -> None:
    names = [f"in_{i}" for i in range(len(inputs))]
    axes = {}
    for name, item in zip(names, inputs, strict=True):
        dynamic = 2 if item.dim() > 2 or item.dtype == torch.bool else 1
        axes[name] = {i: f"{name}_{i}" for i in range(dynamic)}
    torch.onnx.export(
        module.eval(), inputs, f"{path}.onnx", dynamo=False, opset_version=17, input_names=names, dynamic_axes=axes
    )


def _dynamo(path: Path, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    batch = torch.export.Dim("batch")
    shapes = tuple({0: batch} for _ in inputs)
    torch.onnx.export(module.eval(), inputs, f"{path}.onnx", dynamo=True, dynamic_shapes=shapes, verbose=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
