"""What a model's inputs are: a class a role, with the forward that a user would write.

Issue 16's roles: which input is what cannot be told by its place, its name or its dtype alone.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hunt.layers import FEATURES, FEATURES_OF_A_ROW, HIDDEN, Hunted
from seqport.exporters import Input

_X = Input("x", ("batch", "seq", FEATURES))
_LENGTHS = Input("lengths", ("batch",), "int64")
_TOKENS = Input("ids", ("batch", "seq"), "int64")
_STATE = Input("h", (1, "batch", HIDDEN))


class Features(Hunted):
    def forward(self, x: Tensor) -> Any:
        return self.answer(x)


class Lengths(Hunted):
    def forward(self, x: Tensor, lengths: Tensor) -> Any:
        return self.answer(x, lengths)


class LengthsFirst(Hunted):
    def forward(self, lengths: Tensor, x: Tensor) -> Any:
        return self.answer(x, lengths)


class FloatLengths(Hunted):
    def forward(self, x: Tensor, lengths: Tensor) -> Any:
        return self.answer(x, lengths.long())


class ColumnLengths(Hunted):
    def forward(self, x: Tensor, lengths: Tensor) -> Any:
        return self.answer(x, lengths.squeeze(1))


class LastSteps(Hunted):
    def forward(self, x: Tensor, last: Tensor) -> Any:
        return self.answer(x, last + 1)


class PaddedSteps(Hunted):
    def forward(self, x: Tensor, padding: Tensor) -> Any:
        return self.answer(x, x.size(1) - padding)


class Two(Hunted):
    def forward(self, x: Tensor, z: Tensor) -> Any:
        return self.answer(x - 0.5 * z)


class TwoSwapped(Hunted):
    def forward(self, z: Tensor, x: Tensor) -> Any:
        return self.answer(x - 0.5 * z)


class TimeMajor(Hunted):
    def forward(self, x: Tensor) -> Any:
        return self.answer(x.transpose(0, 1))


class ProjectedState(Hunted):
    def forward(self, x: Tensor, feat: Tensor) -> Any:
        return self.answer(x, h=torch.tanh(self.project(feat))[None])


class KeptState(Hunted):
    def forward(self, x: Tensor, h: Tensor, keep: Tensor) -> Any:
        return self.answer(x, h=h * keep.view(1, -1, 1))


class Ids(Hunted):
    def forward(self, ids: Tensor) -> Any:
        return self.answer(self.embed(ids))


class ShiftedIds(Hunted):
    def forward(self, ids: Tensor) -> Any:
        return self.answer(self.embed(ids + 1))


class IdsButTheFirst(Hunted):
    def forward(self, ids: Tensor) -> Any:
        return self.answer(self.embed(torch.cat([ids[:, 1:], ids[:, :1]], 1)))


class IdsNotZero(Hunted):
    def forward(self, ids: Tensor) -> Any:
        return self.answer(self.embed(ids), keep=ids != 0)


class IdsAboveOne(Hunted):
    def forward(self, ids: Tensor) -> Any:
        return self.answer(self.embed(ids), lengths=(ids > 1).sum(1).clamp(min=1))


class Mask(Hunted):
    def forward(self, x: Tensor, mask: Tensor) -> Any:
        return self.answer(x, keep=mask)


class FloatMask(Hunted):
    def forward(self, x: Tensor, mask: Tensor) -> Any:
        return self.answer(x * mask[..., None], keep=mask > 0.5)


class MaskThatCounts(Hunted):
    def forward(self, x: Tensor, mask: Tensor) -> Any:
        return self.answer(x, mask.sum(1).clamp(min=1))


# Role → its class and its inputs, in the order of forward.
ROLES: dict[str, tuple[type[Hunted], tuple[Input, ...]]] = {
    "features": (Features, (_X,)),
    "lengths": (Lengths, (_X, _LENGTHS)),
    "lengths first": (LengthsFirst, (_LENGTHS, _X)),
    "float lengths": (FloatLengths, (_X, Input("lengths", ("batch",)))),
    "column of lengths": (ColumnLengths, (_X, Input("lengths", ("batch", 1), "int64"))),
    "last steps": (LastSteps, (_X, Input("last", ("batch",), "int64"))),
    "padded steps": (PaddedSteps, (_X, Input("padding", ("batch",), "int64"))),
    "two": (Two, (_X, Input("z", ("batch", "seq", FEATURES)))),
    "two swapped": (TwoSwapped, (Input("z", ("batch", "seq", FEATURES)), _X)),
    "time-major": (TimeMajor, (Input("x", ("seq", "batch", FEATURES)),)),
    "projected state": (ProjectedState, (_X, Input("feat", ("batch", FEATURES_OF_A_ROW)))),
    "kept state": (KeptState, (_X, _STATE, Input("keep", ("batch",)))),
    "ids": (Ids, (_TOKENS,)),
    "ids shifted": (ShiftedIds, (_TOKENS,)),
    "ids but the first": (IdsButTheFirst, (_TOKENS,)),
    "ids != 0": (IdsNotZero, (_TOKENS,)),
    "ids > 1": (IdsAboveOne, (_TOKENS,)),
    "mask": (Mask, (_X, Input("mask", ("batch", "seq"), "bool"))),
    "float mask": (FloatMask, (_X, Input("mask", ("batch", "seq")))),
    "mask that counts": (MaskThatCounts, (_X, Input("mask", ("batch", "seq"), "bool"))),
}
