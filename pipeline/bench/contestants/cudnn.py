"""PyTorch with cuDNN: arrays from the host and back, and tensors that stay on the device."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from seqport.pipeline.bench.cases import Network
from seqport.pipeline.bench.contestants import pytorch


class _OnCuda(pytorch.OfModule):
    """A module on the first GPU, in full float32."""

    device = "cuda"

    def __init__(self, network: Network, folder: Path) -> None:
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cuda.matmul.allow_tf32 = False
        super().__init__(network, folder)

    def _call(self, x: Tensor, lengths: Tensor) -> Callable[[], Tensor]:
        def call() -> Tensor:
            with torch.inference_mode():
                on_device = x.to(self.device)
                arguments = (on_device, lengths) if self.lengths else (on_device,)
                return self.module(*arguments).cpu()

        return call


class _StaysThere(_OnCuda):
    def _call(self, x: Tensor, lengths: Tensor) -> Callable[[], Tensor]:
        on_device = x.to(self.device)
        arguments = (on_device, lengths) if self.lengths else (on_device,)

        def call() -> Tensor:
            with torch.inference_mode():
                y = self.module(*arguments)
            torch.cuda.synchronize()
            return y

        return call


class Packed(_OnCuda):
    """Packed, from the host and to the host."""


class Padded(_OnCuda, pytorch.Padded):
    """Padded, from the host and to the host."""


class PackedOnDevice(_StaysThere):
    """Packed, with input and output on the device; the lengths come from the host, as packing wants them."""


class PaddedOnDevice(_StaysThere, pytorch.Padded):
    """Padded, with input and output on the device."""
