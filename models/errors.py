"""What the definition of a model refuses.

SeqportError
├── SpecError      a specification that describes no model: the field, its value, what is allowed
└── WeightsError   arrays that do not fit the specification: the array, what came, what was expected
"""

from __future__ import annotations

from seqport.errors import SeqportError


class SpecError(SeqportError, ValueError):
    """A field of a specification has a value that is not allowed."""


class WeightsError(SeqportError, ValueError):
    """An array is missing, unknown, or of another shape or type than the specification says."""
