"""Packed sequences while a module is traced: the padded tensor and its lengths, nothing lost.

`pack_padded_sequence` of PyTorch flattens the valid steps, which no tracer follows for lengths it
does not know. Here a packed sequence keeps the padded tensor, so that a recurrent layer gets
tensor and lengths as they came; the flat data is computed only where a module really reads it,
in PyTorch's own layout: step by step, in each step the rows that are still alive, longest first.
https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.rnn.pack_padded_sequence.html
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from seqport.exporters.errors import RefusedError
from seqport.exporters.frontends.pytorch.datasizes import DataSizes
from seqport.exporters.frontends.pytorch.numbers import TracedNumbers

# Where `batch_sizes` of a traced pack remembers what it was made from, so that a PackedSequence
# that a module builds itself (from new data and the old batch_sizes) still finds its lengths.
_ORIGIN = "_seqport_origin"


@dataclass(frozen=True)
class Origin:
    """Lengths and shape of the batch that was packed.

    Attributes:
        lengths: int64 [batch].
        seq: size of the padded sequence axis.
        sorted_rows: whether the caller vouched for descending lengths.
        sizes: where max(lengths) comes from.
    """

    lengths: Tensor
    seq: Any
    sorted_rows: bool
    sizes: DataSizes

    @property
    def batch(self) -> Any:
        """Size of the batch axis."""
        return self.lengths.shape[0]

    @property
    def longest(self) -> Any:
        """max(lengths) as a size that the tracer may slice with."""
        return self.sizes.largest(self.lengths, self.seq)

    @cached_property
    def order(self) -> Tensor:
        """Rows by descending length, as PyTorch packs them."""
        if self.sorted_rows:
            return torch.arange(self.batch, device=self.lengths.device)
        return torch.sort(self.lengths, descending=True).indices

    @cached_property
    def rank(self) -> Tensor:
        """The inverse of `order`."""
        return torch.argsort(self.order)

    @cached_property
    def mask(self) -> Tensor:
        """Valid steps, bool [seq, batch], in the caller's order of rows."""
        return torch.arange(self.seq, device=self.lengths.device)[:, None] < self.lengths

    @cached_property
    def batch_sizes(self) -> Tensor:
        """Rows alive at each step, int64 [max(lengths)]."""
        sizes = self.mask.sum(dim=1)[: self.longest]
        setattr(sizes, _ORIGIN, self)
        return sizes


class CapturedPack(PackedSequence):
    """A PackedSequence that has kept the padded tensor [seq, batch, *]."""

    padded: Tensor
    origin: Origin
    zero_padded: bool  # whether `padded` is known to be zero at padded steps

    @classmethod
    def of(cls, padded: Tensor, origin: Origin, *, zero_padded: bool) -> CapturedPack:
        """Wrap a padded tensor [seq, batch, *] with the lengths in `origin`."""
        pack = tuple.__new__(cls, (None, None, None, None))
        pack.padded, pack.origin, pack.zero_padded = padded, origin, zero_padded
        return pack

    @property
    def data(self) -> Tensor:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The valid steps, flat."""
        rows = torch.nonzero(self.origin.mask[:, self.origin.order].reshape(-1)).squeeze(1)
        torch._check(rows.shape[0] > 0)
        by_length = self.padded.index_select(1, self.origin.order)
        return by_length.flatten(0, 1).index_select(0, rows)

    @property
    def batch_sizes(self) -> Tensor:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Rows alive at each step."""
        return self.origin.batch_sizes

    @property
    def sorted_indices(self) -> Tensor | None:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The caller's rows by descending length; None where they came sorted."""
        return None if self.origin.sorted_rows else self.origin.order

    @property
    def unsorted_indices(self) -> Tensor | None:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The inverse of `sorted_indices`."""
        return None if self.origin.sorted_rows else self.origin.rank

    def __iter__(self) -> Iterator[Any]:
        return iter((self.data, self.batch_sizes, self.sorted_indices, self.unsorted_indices))

    def __getitem__(self, index: Any) -> Any:
        return tuple(self)[index]

    def _replace(self, **fields: Any) -> PackedSequence:
        names = ("data", "batch_sizes", "sorted_indices", "unsorted_indices")
        return PackedSequence(**{name: fields.get(name, getattr(self, name)) for name in names})

    def to(self, *args: Any, **kwargs: Any) -> CapturedPack:
        """The pack with its tensor converted, as PackedSequence.to does."""
        return type(self).of(self.padded.to(*args, **kwargs), self.origin, zero_padded=self.zero_padded)


def captured(packed: PackedSequence, layer: str) -> CapturedPack:
    """Any packed sequence met during the trace, with its padded tensor.

    Raises:
        RefusedError: the sequence was not packed by `pack_padded_sequence` inside the module.
    """
    if isinstance(packed, CapturedPack):
        return packed
    origin = getattr(packed.batch_sizes, _ORIGIN, None)
    if origin is None:
        raise RefusedError(
            layer,
            "gets a PackedSequence whose batch_sizes do not come from pack_padded_sequence, so its lengths are lost",
            "pack inside forward with pack_padded_sequence(x, lengths), and keep batch_sizes as they are",
        )
    # Step t of the row of rank r stands at (rows alive before t) + r.
    mask = origin.mask
    alive = mask.sum(dim=1)
    before = torch.cumsum(alive, dim=0) - alive
    place = before[:, None] + origin.rank[None, :]
    place = torch.where(mask, place, 0)
    padded = packed.data.index_select(0, place.reshape(-1)).unflatten(0, (origin.seq, origin.batch))
    padded = torch.where(_over(mask, padded), padded, 0)
    return CapturedPack.of(padded, origin, zero_padded=True)


def pack(sizes: DataSizes, input: Tensor, lengths: Any, batch_first: bool, enforce_sorted: bool) -> CapturedPack:
    """`torch.nn.utils.rnn.pack_padded_sequence` while tracing; max(lengths), where it is needed, is one of `sizes`.

    Raises:
        RefusedError: the lengths are a Python list, so the trace would freeze them.
    """
    if isinstance(lengths, TracedNumbers):
        lengths = lengths.tensor
    if not isinstance(lengths, Tensor):
        raise RefusedError(
            "pack_padded_sequence",
            f"gets its lengths as a Python {type(lengths).__name__}, which the trace would freeze",
            "give the module an int64 input of lengths and pass that tensor (lengths.cpu() is fine)",
        )
    padded = input.transpose(0, 1) if batch_first else input
    origin = Origin(lengths.to(torch.int64), padded.shape[0], enforce_sorted, sizes)
    return CapturedPack.of(padded, origin, zero_padded=False)


def pad(sequence: PackedSequence, batch_first: bool, padding_value: float, total_length: Any) -> tuple[Tensor, Tensor]:
    """`torch.nn.utils.rnn.pad_packed_sequence` while tracing: cut to max(lengths) unless `total_length`."""
    packed = captured(sequence, "pad_packed_sequence")
    padded, origin = packed.padded, packed.origin
    if padding_value != 0 or not packed.zero_padded:
        padded = torch.where(_over(origin.mask, padded), padded, padding_value)
    if isinstance(total_length, Tensor):
        total_length = total_length.item()
    if total_length is None:
        padded = padded[: origin.longest]
    elif not _same_size(total_length, origin.seq):
        longest = origin.longest
        torch._check(total_length >= longest)
        filler = padded.new_full((total_length - longest, *padded.shape[1:]), padding_value)
        padded = torch.cat([padded[:longest], filler])
    return (padded.transpose(0, 1) if batch_first else padded), origin.lengths


def _over(mask: Tensor, padded: Tensor) -> Tensor:
    """The mask [seq, batch] with axes of size 1 appended, to broadcast over `padded`."""
    return mask[(..., *(None,) * (padded.dim() - 2))]


def _same_size(one: Any, other: Any) -> bool:
    from torch.fx.experimental.symbolic_shapes import statically_known_true

    return statically_known_true(one == other)
