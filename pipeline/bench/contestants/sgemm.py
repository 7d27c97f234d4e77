"""The limit: the same matrix products of the valid steps, by sgemm alone, without anything in between."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from seqport.pipeline.bench.cases import INPUT_DIM, Case, Inputs, Network
from seqport.pipeline.bench.contestants.entry import Prepared
from seqport.pipeline.bench.networks import GATES

Multiply = Callable[[Any, Any, Any], object]


class _Sgemm(ABC):
    """One product for all inputs, then one a step; full batches, because those are the fastest."""

    def __init__(self, network: Network, folder: Path) -> None:
        del folder
        self.network = network

    def prepare(self, case: Case, inputs: Inputs) -> Prepared:
        """Lay the matrices out; the answer is none."""
        H = self.network.num_hidden_units
        columns = GATES[self.network.cell] * H
        steps, rest = divmod(inputs.valid_steps, case.batch)
        W_x, W_h = self.array(INPUT_DIM, columns), self.array(H, columns)
        projection = (self.array(inputs.valid_steps, INPUT_DIM), W_x, self.array(inputs.valid_steps, columns))
        products = [(self.array(case.batch, H), W_h, self.array(case.batch, columns))] * steps
        if rest:
            products.append((self.array(rest, H), W_h, self.array(rest, columns)))
        products = [projection, *products] * self.network.directions

        def call() -> None:
            for a, b, out in products:
                self.multiply(a, b, out)

        return Prepared(call, lambda: np.empty((0, 0), np.float32))

    @abstractmethod
    def array(self, rows: int, columns: int) -> Any:
        """Random numbers, where the library keeps its own."""

    @abstractmethod
    def multiply(self, a: Any, b: Any, out: Any) -> None:
        """Write the product of a and b into out."""


class OfPyTorch(_Sgemm):
    """PyTorch's sgemm, which is MKL on x86-64."""

    def __init__(self, network: Network, folder: Path) -> None:
        import torch

        super().__init__(network, folder)
        self._torch = torch
        self._mm = torch.mm

    def array(self, rows: int, columns: int) -> Any:
        """Random numbers, because zeros may be multiplied faster."""
        return self._torch.randn(rows, columns)

    def multiply(self, a: Any, b: Any, out: Any) -> None:
        """Write a @ b into out."""
        self._mm(a, b, out=out)


class OfNumPy(_Sgemm):
    """NumPy's sgemm, which is OpenBLAS in the wheels from PyPI."""

    def array(self, rows: int, columns: int) -> Any:
        """Random numbers, because zeros may be multiplied faster."""
        return np.random.default_rng(0).standard_normal((rows, columns), dtype=np.float32)

    def multiply(self, a: Any, b: Any, out: Any) -> None:
        """Write a @ b into out."""
        np.matmul(a, b, out=out)


def flops(case: Case, valid_steps: int) -> int:
    """Floating-point operations of the products of all valid steps, an addition and a multiplication apart."""
    network = case.network
    columns = GATES[network.cell] * network.num_hidden_units
    return 2 * valid_steps * network.directions * (INPUT_DIM + network.num_hidden_units) * columns
