"""A module as torch.export likes it best: tensors in, tensors out, whatever structures its own forward has."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from seqport.exporters.arrangement import Arrangement
from seqport.exporters.errors import InputsError
from seqport.exporters.frontends.pytorch.calls import calls_traced
from seqport.exporters.frontends.pytorch.datasizes import DataSizes
from seqport.exporters.frontends.pytorch.leaves import leaves
from seqport.exporters.frontends.pytorch.longest import Longest

# What torch.export puts before the names of the module's parameters and buffers.
PREFIX = "model."


class Flat(nn.Module):
    """Calls a module with its arguments arranged, and gives what it returns flat.

    Args:
        model: the module.
        arrangement: how the tensors reach it.
        sizes: sizes that depend on values, each an input after the tensors.
    """

    def __init__(self, model: nn.Module, arrangement: Arrangement, sizes: DataSizes) -> None:
        super().__init__()
        self.model = model
        self.eval()
        # In a closure, because torch.export takes a module's own attributes for state.
        names: list[str] = []

        def run(tensors: tuple[Tensor, ...]) -> Any:
            count = len(arrangement.inputs)
            with sizes.among(tensors[count:]), calls_traced(sizes):
                found = leaves(arrangement.call(model, tensors[:count]))
                _require_traced(found)
                names[:] = [name for name, _ in found]
                return [leaf for _, leaf in found], sizes.maxima()

        self._run, self._names = run, lambda: list(names)

    @property
    def output_names(self) -> list[str]:
        """Names of the outputs that the last call gave."""
        return self._names()

    def forward(self, *tensors: Tensor) -> Any:
        """The module's outputs, and the values of the sizes that were inputs."""
        return self._run(tensors)


def _require_traced(found: list[tuple[str, Any]]) -> None:
    for name, leaf in found:
        if type(leaf) in (int, Longest):
            raise InputsError(f"forward returns {leaf!r} ({name}), which is no tensor: return tensors, or leave it out")
