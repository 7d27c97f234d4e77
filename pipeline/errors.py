"""What the pipeline refuses.

SeqportError
└── PipelineError   something asked for that cannot be done: a file, a name, a batch that proves nothing
"""

from __future__ import annotations

from seqport.errors import SeqportError


class PipelineError(SeqportError):
    """Something asked of the pipeline that it cannot do; says what, and what to do instead."""
