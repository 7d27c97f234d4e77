"""Sizes that depend on values, as the tracer takes sizes of inputs.

A padded output is cut to max(lengths), a size that only the data knows. PyTorch traces such a size as a number of
which it knows nothing, and many an operator then asks what it cannot answer (is it 1? is it the other one?). So where
a trace failed for that, each such size becomes the size of an input that is added for it; what the tracer asks is
answered as for every dynamic axis, and afterwards the graph computes the size itself and the input is gone. That an
answer held for the traced size alone, the probe finds where the model's code asks (noting.py).

Where a loop runs up to such a size, no tracer can follow: then each is a number, over which the loop unrolls, and the
graph's last outputs tell the sizes; the rolling reads them there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import onnx_ir as ir
import torch
from torch import Tensor

from seqport.exporters.errors import ExportError
from seqport.exporters.frontends.pytorch.longest import Longest

# Traced sizes of the inputs that are added: below those of the dynamic axes, which lengths are bounded by.
_TRACED = (17, 13, 11, 7)


class DataSizes:
    """The sizes of one trace.

    Args:
        as_inputs: whether they are sizes of added inputs; else the tracer's own.
        unrolling: whether the trace is one at few steps, over which loops unroll.
        numbers: what the sizes are traced as, where they are numbers.
    """

    def __init__(self, *, as_inputs: bool, unrolling: bool, numbers: Sequence[int] = ()) -> None:
        self.as_inputs = as_inputs
        self.unrolling = unrolling
        self.numbers = numbers
        self._unused: list[int] = []
        self._truths: list[tuple[Tensor, bool]] = []  # a comparison of a number, and whether it holds
        self._free: list[Tensor] = []
        self._known: list[tuple[Tensor, Any, Tensor]] = []  # lengths, their largest as a size, and as a tensor
        self._same: list[tuple[Tensor, Tensor]] = []  # a tensor, and the one that it has its values from
        self._longest: list[tuple[Tensor, Tensor]] = []  # a tensor, and the one that it is the maximum of

    def traced(self) -> Sequence[int]:
        """What the sizes of the inputs to add are traced as."""
        return _TRACED if self.as_inputs else ()

    def examples(self) -> list[Tensor]:
        """The inputs to add."""
        return [torch.zeros(size) for size in self.traced()]

    @contextmanager
    def among(self, added: Sequence[Tensor]) -> Iterator[None]:
        """Within this block `largest` takes its sizes from the added inputs."""
        self._free = list(added)
        self._known, self._same, self._longest = [], [], []
        self._unused, self._truths = list(self.numbers), []
        yield

    def maxima(self) -> list[Tensor]:
        """The values of the sizes that were taken, int64 [1] each."""
        return [value for _, _, value in self._known]

    def taken(self) -> list[int]:
        """The numbers that the last trace took, in the order of `maxima`."""
        return [size.plain() for _, size, _ in self._known if self.numbers]

    def largest(self, lengths: Tensor, bound: Any) -> Any:
        """max(lengths) as a size that the tracer may slice with, between 1 and the bound."""
        lengths = self._source(lengths)
        for known, size, _ in self._known:
            if known is lengths:
                return size
        if self._free or self._unused:
            size = self._free.pop(0).shape[0] if self._free else Longest(self._unused.pop(0))
            self._known.append((lengths, size, lengths.max().to(torch.int64).reshape(1)))
            return size
        size = lengths.max().item()
        torch._check(size >= 1)
        if bound is not None:
            torch._check(size <= bound)
        return size

    def note_same(self, result: Any, source: Tensor) -> None:
        """The result holds the source's values."""
        if isinstance(result, Tensor) and result is not source:
            self._same.append((result, source))

    def note_maximum(self, result: Any, source: Tensor) -> None:
        """The result is the maximum of the source."""
        if isinstance(result, Tensor):
            self._longest.append((result, source))

    def size_of(self, tensor: Tensor) -> Any:
        """The size that a tensor holds, where it is known as a maximum of lengths and sizes are inputs; else None."""
        source = next((source for item, source in self._longest if item is self._source(tensor)), None)
        return None if source is None or not (self.as_inputs or self.numbers) else self.largest(source, None)

    def number_of(self, tensor: Tensor) -> Any:
        """The size that a tensor holds, as a Python number; None where it is not known as one."""
        return self.size_of(tensor) if self.numbers else None

    def note_comparison(self, holds: Callable[[Any, Any], bool], result: Any, one: Any, other: Any) -> None:
        """The result compares two values, of which one may hold a size that is a number."""
        if not self.numbers or not isinstance(result, Tensor):
            return
        sides = [self.size_of(side) if isinstance(side, Tensor) else side for side in (one, other)]
        if all(isinstance(side, (int, float)) for side in sides):
            self._truths.append((result, bool(holds(*sides))))

    def truth_of(self, tensor: Tensor) -> bool | None:
        """Whether a comparison with a number holds; None for any other tensor."""
        return next((truth for item, truth in self._truths if item is tensor), None)

    def _source(self, tensor: Tensor) -> Tensor:
        while (source := next((s for item, s in self._same if item is tensor), None)) is not None:
            tensor = source
        return tensor


def compute_sizes(graph: ir.Graph, inputs: int, outputs: int) -> None:
    """Let the graph compute the sizes that came as inputs.

    Args:
        graph: its inputs and outputs end with those that were added.
        inputs: how many inputs the model has.
        outputs: how many outputs the model has.

    Raises:
        ExportError: more than an added input's size is read.
    """
    added, values = graph.inputs[inputs:], graph.outputs[outputs:]
    for item, value in zip(added, values, strict=False):
        for use in list(item.uses()):
            if use.node.op_type != "Shape":
                raise ExportError(
                    f"{use.node.name} reads an input that only lends its size; this is a fault of seqport"
                )
            use.node.outputs[0].replace_all_uses_with(value, replace_graph_outputs=True)
            graph.remove(use.node, safe=True)
    del graph.inputs[inputs:]
    del graph.outputs[outputs:]
    graph.sort()
