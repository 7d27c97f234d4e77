"""What an export refuses.

SeqportError
└── ExportError      the model cannot be exported within the contract
    └── InputsError  the declared inputs or outputs do not fit the model
"""

from __future__ import annotations

from dataclasses import dataclass

from seqport.errors import SeqportError


class ExportError(SeqportError):
    """A model that cannot be exported within the contract; nothing was written."""


class InputsError(ExportError, ValueError):
    """The declared inputs, outputs, example or opset do not fit the model."""


@dataclass(frozen=True)
class Refusal:
    """One reason why an artifact would break the contract.

    Attributes:
        layer: the user's own name of the layer, or "the model".
        reason: what stands in the way, with the value.
        remedy: what to do about it.
    """

    layer: str
    reason: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.layer}: {self.reason}; {self.remedy}"


def refusal_behind(error: BaseException) -> ExportError | None:
    """The refusal that a capture raised, wherever a tracer has wrapped it."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, RefusedError):
            return seen
        seen = seen.__cause__ or seen.__context__
    return None


class RefusedError(ExportError):
    """Raised inside a frontend where a layer is met that cannot be captured."""

    def __init__(self, layer: str, reason: str, remedy: str) -> None:
        self.refusal = Refusal(layer, reason, remedy)
        super().__init__(str(self.refusal))
