"""Why a loop stays as it is, raised where the reason is found and reported by the public call.

SeqportError
└── ExportError
    └── LiftError   the file as a whole cannot be lifted: unreadable, or not a valid ONNX model
"""

from __future__ import annotations

from seqport.exporters.errors import ExportError


class LiftError(ExportError):
    """A file that cannot be read, run or written; nothing was written."""


class NotLiftedError(Exception):
    """One loop is no recurrent layer of ours, or could not be proven to be one; the text says why."""
