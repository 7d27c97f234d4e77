"""Models as data: a recurrent layer or loop, with pieces before and behind it that look like anybody's code.

Each piece is a list: its kind, then its numbers. Branches, constants and windows set in at numbers that no trace sees;
scales, mixings and roles are those of real models.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from seqport.exporters import Input

Spec = dict[str, Any]
FEATURES, HIDDEN, WIDE = 4, 6, 5000
_CELLS = {"GRU": nn.GRU, "LSTM": nn.LSTM, "RNN": nn.RNN}
CONFIG = argparse.Namespace(stop=0)


def drawn(random: np.random.Generator) -> Spec:
    """A random model."""
    number = int(random.choice([5, 20, 33, 64, 100, 256, 300, 400]))
    loop = bool(random.random() < 0.3)
    behind = _some(random, _BEHIND, 2)
    ends = [piece for piece in behind if piece[0] in _ENDS]
    return {
        "seed": int(random.integers(1000)),
        "cell": str(random.choice(["GRU", "LSTM", "RNN"])),
        "lengths": bool(random.random() < 0.5),
        "loop": [str(random.choice(list(_STOPS))), number] if loop else None,
        "front": _some(random, _FRONT, 2),
        "behind": [piece for piece in behind if piece not in ends] + ends[:1],
    }


def _some(random: np.random.Generator, kinds: dict[str, tuple], most: int) -> list[list]:
    names = random.choice(list(kinds), int(random.integers(0, most + 1)), replace=False)
    return [[str(name), *(random.choice(choices).item() for choices in kinds[str(name)][1:])] for name in names]


class Hunted(nn.Module):
    """The model of a spec; forward takes x [batch, seq, features], and lengths [batch] where the spec says so."""

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        self.spec = spec
        self.layer = _CELLS[spec["cell"]](FEATURES, HIDDEN, batch_first=True)
        self.cell = nn.GRUCell(FEATURES, HIDDEN)
        self.wide = nn.Linear(HIDDEN, WIDE)
        self.stop = spec["loop"][1] if spec["loop"] else 0
        CONFIG.stop = self.stop

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Any:
        for kind, *numbers in self.spec["front"]:
            x = _FRONT[kind][0](x, *numbers)
        y = self._steps(x) if self.spec["loop"] else self._layer(x, lengths)
        for kind, *numbers in self.spec["behind"]:
            y = _BEHIND[kind][0](self, y, *numbers)
        return y

    def _layer(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        if lengths is None:
            return self.layer(x)[0]
        packed = pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
        return pad_packed_sequence(self.layer(packed)[0], batch_first=True, total_length=x.size(1))[0]

    def _steps(self, x: Tensor) -> Tensor:
        """A cell at every step, which ends at a step or holds its state from there on."""
        stops = _STOPS[self.spec["loop"][0]]
        h, out = x.new_zeros(x.size(0), HIDDEN), []
        for t in range(x.size(1)):
            if not stops(self, t, x.size(1)):
                h = self.cell(x[:, t], h)
            out.append(h)
        return torch.stack(out, 1)


# Where a number that ends a loop may stand, and how it is asked for.
_STOPS: dict[str, Callable[[Hunted, int, int], bool]] = {
    "attribute": lambda self, t, _: t >= self.stop,
    "configuration": lambda _, t, __: t >= CONFIG.stop,
    "one later": lambda _, t, __: t > CONFIG.stop,
    "product": lambda _, t, __: t * 2 >= 2 * CONFIG.stop,
    "fraction": lambda _, t, __: t / CONFIG.stop > 1.0,
    "whole": lambda _, t, steps: steps > CONFIG.stop and t > 1,
    "one step": lambda _, t, __: t == CONFIG.stop,
}


def _window(x: Tensor, number: int) -> Tensor:
    return torch.cat([x[:, :number] * 2, x[:, number:]], 1)


def _half_if(condition: Callable[[Tensor, Any], bool]) -> Callable[[Hunted, Tensor, Any], Tensor]:
    return lambda _, y, number: y * 0.5 if condition(y, number) else y


def _infinite_from(self: Hunted, y: Tensor, number: int) -> Tensor:  # noqa: ARG001
    return y.masked_fill((torch.arange(y.size(1)) >= number).view(1, -1, *[1] * (y.dim() - 2)), float("-inf"))


_NUMBERS = [5, 16, 30, 64, 100, 256, 300]
# Kind → what it does to x [batch, seq, features], and what each of its numbers may be. A line a kind.
_FRONT: dict[str, tuple] = {
    "normalise": (
        lambda x, e: (x - x.mean(1, keepdim=True)) / (x.var(1, keepdim=True, correction=0).sqrt() + 10.0**e),
        [-12, -8, -5],
    ),
    "limit over the batch": (lambda x, top: x / (x.abs().max() / top).clamp(min=1.0), [2, 8, 50]),
    "centre the rows": (lambda x: x - 0.1 * x.mean(0, keepdim=True),),
    "window": (_window, _NUMBERS),
    "floor": (lambda x, by: x // by, [0.1, 0.3, 0.5]),
    "logsigmoid": (lambda x: functional.logsigmoid(x),),
    "log": (lambda x: torch.log1p(x.abs()) * x.sign(),),
    "clip": (lambda x, top: x.clamp(-top, top).clamp(top / 2.0, 2.0 * top), [1.0, 6.0, 40.0]),
    "scale": (lambda x, e: x * 10.0**e, [-6, -3, 2]),
}  # fmt: skip
# The same of y [batch, seq, units] behind the layer.
_BEHIND: dict[str, tuple] = {
    "half if long": (_half_if(lambda y, n: y.size(1) > n), _NUMBERS),
    "half if long in seconds": (_half_if(lambda y, n: y.size(1) * 0.02 > n * 0.02), _NUMBERS),
    "half if many": (_half_if(lambda y, n: y.size(0) * y.size(1) > n), [500, 3000, 8192]),
    "half if square": (_half_if(lambda y, n: y.size(1) ** 2 > n), [900, 40000]),
    "half if multiple": (_half_if(lambda y, n: y.size(1) % n == 0), [5, 7, 50]),
    "half if blocks": (_half_if(lambda y, n: -(-y.size(1) // 8) > n), [6, 20]),
    "half if rows": (_half_if(lambda y, n: y.size(0) >= n), [6, 20, 64]),
    "less the first steps": (lambda _, y, n: y - y[:, :n].mean(1, keepdim=True), _NUMBERS),
    "mean of all steps": (lambda _, y: y.mean(1),),
    "softmax over the rows": (lambda _, y: torch.softmax(y, 0),),
    "a little of the row before": (lambda _, y: y + 0.01 * y.roll(1, 0),),
    "class": (lambda _, y: y.argmax(-1),),
    "flag": (lambda _, y, at: y.mean(1) > at, [0.0, 0.05]),
    "wide softmax": (lambda self, y: torch.softmax(self.wide(y), -1),),
    "small": (lambda _, y, e: y * 10.0**e, [-9, -6, -3]),
    "infinite steps": (_infinite_from, _NUMBERS),
}  # fmt: skip

# One answer for all steps; and pieces behind which nothing else makes sense.
ENDS_STEPS = frozenset({"mean of all steps", "flag"})
_ENDS = ENDS_STEPS | {"class", "wide softmax"}


def built(spec: Spec) -> tuple[nn.Module, list[Input]]:
    """The model with seeded weights, and its inputs."""
    torch.manual_seed(spec["seed"])
    inputs = [Input("x", ("batch", "seq", FEATURES))]
    if spec["lengths"] and not spec["loop"]:
        inputs.append(Input("lengths", ("batch",), "int64"))
    return Hunted(spec).eval(), inputs


def numbers(spec: Spec) -> list[int]:
    """The numbers at which something may set in."""
    pieces = [*spec["front"], *spec["behind"], *([spec["loop"]] if spec["loop"] else [])]
    return sorted({int(n) for piece in pieces for n in piece[1:] if n >= 2})


def smaller(spec: Spec) -> list[Spec]:
    """The same model less one thing."""
    found = []
    for key in ("front", "behind"):
        for place in range(len(spec[key])):
            less = copy.deepcopy(spec)
            del less[key][place]
            found.append(less)
    if spec["loop"]:
        found.append({**copy.deepcopy(spec), "loop": None})
    if spec["lengths"]:
        found.append({**copy.deepcopy(spec), "lengths": False})
    if spec["cell"] != "GRU":
        found.append({**copy.deepcopy(spec), "cell": "GRU"})
    return found
