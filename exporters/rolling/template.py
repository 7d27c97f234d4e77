"""One step of a loop, as the recogniser of cells wants to see it."""

from __future__ import annotations

from collections.abc import Iterable

import onnx_ir as ir

from seqport.exporters.lift.walk import Facts, skip
from seqport.exporters.rolling.terms import Applied, NotRollable, Same, Term

# The step that is read: at the first, states still are what they were before the loop.
TEMPLATE = 1


class Template:
    """The second step of a loop.

    Args:
        facts: of the model.
        terms: all that the loop is made of.
    """

    def __init__(self, facts: Facts, terms: Iterable[Term]) -> None:
        self.facts = facts
        self.parts: dict[ir.Value, list[ir.Value]] = {}  # states stand apart already
        self._terms: dict[ir.Value, Term] = {}
        for term in terms:
            value = term.family[TEMPLATE]
            if value is not None and (value not in self._terms or isinstance(term, Applied)):
                self._terms[value] = term

    def resolve(self, value: ir.Value) -> ir.Value:
        """The value behind Identities."""
        return value if value in self._terms else skip(value)

    def is_inner(self, value: ir.Value) -> bool:
        """Whether the step computes it."""
        return isinstance(self._terms.get(value), Applied)

    def slice_of(self, _: ir.Value) -> None:
        """Steps of a sequence are leaves by themselves."""
        return

    def term_of(self, value: ir.Value) -> Term:
        """What the value is at every step.

        Raises:
            NotRollable: that is not known.
        """
        if value in self._terms:
            return self._terms[value]
        if value.producer() is None:
            return Same((value,) * 3, value)
        raise NotRollable(f"{value.name} is not known at every step")
