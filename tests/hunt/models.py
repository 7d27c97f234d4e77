"""Models as data: drawn, built and made smaller.

Each piece is a list: its kind, then its numbers. `hunt.pieces`, `hunt.roles` and `hunt.writers` have the kinds.
"""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import nn

from hunt.layers import CELLS, Spec
from hunt.pieces import BEHIND, ENDS, FRONT, STOPS, WAYS
from hunt.roles import ROLES
from hunt.writers import SAYS, Writer, writer_inputs
from seqport.exporters import Input

# The least that a spec may be.
PLAIN: Spec = {
    "seed": 0, "cell": "GRU", "role": "features", "way": "attribute", "loop": None, "says": None, "front": [],
    "behind": [],
}  # fmt: skip
_WRITERS, _PLAIN_ROLES = 0.1, 0.3  # how many models write, and how many of the others have the two usual roles


def drawn(random: np.random.Generator) -> Spec:
    """A random model."""
    spec = {**copy.deepcopy(PLAIN), "seed": int(random.integers(1000)), "cell": str(random.choice(list(CELLS)))}
    if random.random() < _WRITERS:
        return {**spec, "says": str(random.choice(list(SAYS)))}
    number = int(random.choice([5, 20, 33, 64, 100, 256, 300, 400]))
    loop = bool(random.random() < 0.3)
    behind = _some(random, BEHIND, 2)
    ends = [piece for piece in behind if piece[0] in ENDS]
    usual = random.random() < _PLAIN_ROLES
    return {
        **spec,
        "role": str(random.choice(["features", "lengths"] if usual else list(ROLES))),
        "way": str(random.choice(WAYS)),
        "loop": [str(random.choice(list(STOPS))), number] if loop else None,
        "front": _some(random, FRONT, 2),
        "behind": [piece for piece in behind if piece not in ends] + ends[:1],
    }


def _some(random: np.random.Generator, kinds: dict[str, tuple], most: int) -> list[list]:
    names = random.choice(list(kinds), int(random.integers(0, most + 1)), replace=False)
    return [[str(name), *(random.choice(choices).item() for choices in kinds[str(name)][1:])] for name in names]


def built(spec: Spec) -> tuple[nn.Module, list[Input]]:
    """The model with seeded weights, and its inputs."""
    torch.manual_seed(spec["seed"])
    if spec["says"]:
        return Writer(spec).eval(), writer_inputs(spec)
    model, inputs = ROLES[spec["role"]]
    return model(spec).eval(), list(inputs)


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
    for key in ("loop", "role", "way", "cell"):
        if spec[key] != PLAIN[key]:
            found.append({**copy.deepcopy(spec), key: PLAIN[key]})
    return found
