"""The one root of every error that seqport raises.

It lives outside the four packages because each of them derives from it and `models` may import
neither `exporters` nor `runtime`.

SeqportError
├── SpecError, WeightsError           seqport.models
├── ExportError                       seqport.exporters
├── ArtifactError, InputError, ...    seqport.runtime
└── PipelineError                     seqport.pipeline
"""

from __future__ import annotations


class SeqportError(Exception):
    """Something that seqport refuses, with what happened, what was expected and the remedy."""
