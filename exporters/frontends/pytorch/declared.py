"""Modules that say themselves which recurrent cell they are.

A module that writes its own loop over time (a GRU whose reset gate acts before the product, say)
may have a method `recurrent_description()`, and is then captured as one native node:

    {"cell": "gru", "hidden_size": 64, "reset_after": False, "gate_order": "rzn",
     "activations": ["Sigmoid", "Tanh"], "batch_first": True,
     "directions": [{"W_hx": Tensor, "W_hh": Tensor, "b_h": Tensor, "b_hh": Tensor or absent}]}

Its forward(x, lengths=None, h_0=None, c_0=None) returns (y, h_T) or (y, h_T, c_T): y zero at padded steps, states
[D, batch, num_hidden_units]. That the declaration is true is not taken on trust: the export compares
the artifact with the module's own forward.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from seqport.exporters.errors import RefusedError
from seqport.exporters.frontends.pytorch.layers import recurrent
from seqport.exporters.recurrent import CELLS, RecurrentCall

_METHOD = "recurrent_description"


def is_declared(module: nn.Module) -> bool:
    """Whether the module describes its own recurrence."""
    return callable(getattr(module, _METHOD, None))


def declared_forward(module: nn.Module, name: str) -> Callable[..., tuple[Tensor, ...]]:
    """A forward for the module that emits one neutral node.

    Raises:
        RefusedError: the description lacks a field or names an unknown cell.
    """
    description: dict[str, Any] = getattr(module, _METHOD)()
    call = _call(description, name)
    weights = [direction.get(key) for direction in description["directions"] for key in ("W_hx", "W_hh", "b_h", "b_hh")]

    def forward(
        x: Tensor, lengths: Tensor | None = None, h_0: Tensor | None = None, c_0: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        batch_first = description.get("batch_first", True)
        y, finals = recurrent(x.transpose(0, 1) if batch_first else x, lengths, [h_0, c_0], weights, call)
        return (y.transpose(0, 1) if batch_first else y, *finals)

    return forward


def _call(description: dict[str, Any], name: str) -> RecurrentCall:
    try:
        cell = description["cell"]
        if cell not in CELLS:
            raise RefusedError(name, f"describes itself as {cell!r}", f"expected one of {', '.join(CELLS)}")
        return RecurrentCall(
            layer=name,
            cell=cell,
            num_hidden_units=description["hidden_size"],
            direction="bidirectional" if len(description["directions"]) == 2 else "forward",
            activations=tuple(description.get("activations", ())),
            gate_order=description.get("gate_order", ""),
            reset_after=description.get("reset_after", True),
        )
    except KeyError as missing:
        raise RefusedError(
            name, f"{_METHOD}() lacks {missing}", "see seqport.exporters.frontends.pytorch.declared"
        ) from None
