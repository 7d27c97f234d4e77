"""Ties the packages together: the command line, the parity proof, benchmarks and their reports.

Importing it costs nothing: each framework is imported by the runner or export that uses it, when it is used.
"""

from seqport.pipeline.errors import PipelineError

__all__ = ["PipelineError"]
