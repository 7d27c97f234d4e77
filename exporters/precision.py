"""The precisions that an export offers, by name, and what each may cost."""

from __future__ import annotations

from dataclasses import dataclass

from seqport.exporters.errors import InputsError

# Name → the largest difference to the model's own answers, each relative to its own value where that is above 1.
# Rounding of the weights alone moves an answer by some 1e-4 (float16), 1e-3 (bfloat16), 5e-3 (int8).
BOUNDS = {"float16": 1e-2, "bfloat16": 5e-2, "int8-weights": 0.1, "int8-dynamic": 0.1}
# Behind the name of a precision: write the artifact also where its padding moves the answers of other rows.
UNPROVEN = "-unproven"
# Names as `export(precision=...)` takes them.
PRECISIONS = (*BOUNDS, f"int8-dynamic{UNPROVEN}")


@dataclass(frozen=True)
class Precision:
    """How an artifact stores its weights, and what that may cost.

    Args:
        name: "float16", "bfloat16" or "int8-weights" store the weights so and compute in float32; "int8-dynamic"
            also computes LSTM and dense layers in int8, where padding and other rows then leave a row's answers
            alone; "int8-dynamic-unproven" also where they do not.
        bound: the largest difference to the model's own answers; the precision's own where left out.

    Raises:
        InputsError: there is no such precision, or the bound is not above zero.
    """

    name: str
    bound: float | None = None

    def __post_init__(self) -> None:
        if self.name not in PRECISIONS:
            raise InputsError(f"precision is {self.name!r}: expected one of {', '.join(PRECISIONS)}, or None")
        if self.bound is not None and not self.bound > 0:
            raise InputsError(f"the precision's bound is {self.bound!r}: expected a number above 0")

    @property
    def kind(self) -> str:
        """The name without what it says of the proof."""
        return self.name.removesuffix(UNPROVEN)

    @property
    def must_be_proven(self) -> bool:
        """Whether an artifact that fails a check of its padding is refused."""
        return not self.name.endswith(UNPROVEN)

    @property
    def largest(self) -> float:
        """The bound that holds."""
        return BOUNDS[self.kind] if self.bound is None else self.bound


def precision_of(wanted: str | Precision | None) -> Precision | None:
    """What was asked for; None where the model's own precision stays."""
    if wanted is None or isinstance(wanted, Precision):
        return wanted
    return Precision(wanted)
