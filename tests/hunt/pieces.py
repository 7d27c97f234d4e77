"""What stands before and behind a model's layer: a line a kind, with what each of its numbers may be.

Branches, constants and windows set in at numbers that no trace sees; scales and mixings are those of real models.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

CONFIG = argparse.Namespace(stop=0)
LIMITS: dict[str, int] = {}
_NUMBERS = [5, 16, 30, 64, 100, 256, 300]
Condition = Callable[[Tensor, Any], bool]


class Limit:
    """Where a model may keep the number at which it turns; `of` reads it there."""

    def __init__(self, way: str, number: int) -> None:
        self.way, self.number = way, number
        self.tens, self.ones = divmod(number, 10) if isinstance(number, int) else (0, number)
        self.closed = lambda: number
        LIMITS[way] = number

    def of(self) -> int:
        """The number, computed as the way says."""
        return _WAYS[self.way](self)

    @property
    def doubled(self) -> int:
        """Behind a property, as half of what stands there."""
        return 2 * self.number


# Way → how a number is computed.
_WAYS: dict[str, Callable[[Limit], int]] = {
    "attribute": lambda self: self.number,
    "product": lambda self: self.tens * 10 + self.ones,
    "dictionary": lambda self: LIMITS[self.way],
    "closure": lambda self: self.closed(),
    "property": lambda self: self.doubled // 2,
    "longest of a list": lambda self: max([0, self.number, 1]),
}
WAYS = list(_WAYS)

# Where a number that ends a loop may stand, and how it is asked for.
STOPS: dict[str, Callable[[Limit, int, int], bool]] = {
    "attribute": lambda limit, t, _: t >= limit.of(),
    "configuration": lambda _, t, __: t >= CONFIG.stop,
    "one later": lambda limit, t, __: t > limit.of(),
    "product": lambda limit, t, __: t * 2 >= 2 * limit.of(),
    "fraction": lambda limit, t, __: t / limit.of() > 1.0,
    "whole": lambda limit, t, steps: steps > limit.of() and t > 1,
    "one step": lambda limit, t, __: t == limit.of(),
}


def _window(x: Tensor, number: int) -> Tensor:
    return torch.cat([x[:, :number] * 2, x[:, number:]], 1)


def _half_if(condition: Condition) -> Callable[[Any, Tensor, Any], Tensor]:
    return lambda self, y, number: y * 0.5 if condition(y, Limit(self.way, number).of()) else y


def _infinite_from(self: Any, y: Tensor, number: int) -> Tensor:  # noqa: ARG001
    return y.masked_fill((torch.arange(y.size(1)) >= number).view(1, -1, *[1] * (y.dim() - 2)), float("-inf"))


# Kind → what it does to x [batch, seq, features], and what each of its numbers may be.
FRONT: dict[str, tuple] = {
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
    "audio": (lambda x: (x.reshape(x.size(0), x.size(1), -1) * 32768.0).clamp(-32768.0, 32767.0) / 32768.0,),
    "fill what is missing": (lambda x: torch.where(torch.isnan(x), 0.0, x),),
    "positions": (lambda x, n: x + (torch.arange(x.size(1)) / n)[:, None], [100.0, 10000.0]),
    "every other step": (lambda x, n: x * (torch.arange(x.size(1)) % n == 0)[:, None], [2, 7]),
    "the step before": (lambda x, n: x + functional.pad(x, (0, 0, n, 0))[:, : x.size(1)], [1, 3]),
    "so far": (lambda x: x.cumsum(1) * 0.1,),
}  # fmt: skip
# The same of y [batch, seq, units] behind the layer.
BEHIND: dict[str, tuple] = {
    "half if long": (_half_if(lambda y, n: y.size(1) > n), _NUMBERS),
    "half if long in seconds": (_half_if(lambda y, n: y.size(1) * 0.02 > n * 0.02), _NUMBERS),
    "half if many": (_half_if(lambda y, n: y.size(0) * y.size(1) > n), [500, 3000, 8192]),
    "half if square": (_half_if(lambda y, n: y.size(1) ** 2 > n), [900, 40000]),
    "half if multiple": (_half_if(lambda y, n: y.size(1) % n == 0), [5, 7, 50]),
    "half if blocks": (_half_if(lambda y, n: -(-y.size(1) // 8) > n), [6, 20]),
    "half if rows": (_half_if(lambda y, n: y.size(0) >= n), [6, 20, 64]),
    "less the first steps": (lambda _, y, n: y - y[:, :n].mean(1, keepdim=True), _NUMBERS),
    "mean of all steps": (lambda _, y: y.mean(1),),
    "last step": (lambda _, y: y[:, -1],),
    "softmax over the rows": (lambda _, y: torch.softmax(y, 0),),
    "a little of the row before": (lambda _, y: y + 0.01 * y.roll(1, 0),),
    "class": (lambda _, y: y.argmax(-1),),
    "flag": (lambda _, y, at: y.mean(1) > at, [0.0, 0.05]),
    "wide softmax": (lambda self, y: torch.softmax(self.wide(y), -1),),
    "small": (lambda _, y, e: y * 10.0**e, [-9, -6, -3]),
    "infinite steps": (_infinite_from, _NUMBERS),
    "steps from some on": (lambda _, y, n: y * (torch.arange(y.size(1)) >= n)[:, None], _NUMBERS),
    "count": (lambda _, y: (y > 0.1).cumsum(1).float(),),
    "smoothed": (lambda _, y: torch.softmax(y, -1) * 0.9 + 0.1 / y.size(-1),),
}  # fmt: skip

# One answer for all steps; and pieces behind which nothing else makes sense.
DECIDES = frozenset({"class", "flag"})
ENDS_STEPS = frozenset({"mean of all steps", "last step", "flag"})
ENDS = ENDS_STEPS | {"class", "wide softmax"}
