"""Recurrent layers as operators of our own for ONNX Runtime on the CPU, in C: no padded step is ever computed.

`library` finds what was built of the C files beside this one; `seqport.runtime.rewriting.own_operators` puts the
operators into a graph, and `seqport.runtime.rewriting.proof` compares them with ONNX Runtime's first.
"""

from __future__ import annotations

from pathlib import Path

DOMAIN = "seqport"
NOT_BUILT = (
    "seqport's operators were not built when it was installed: they need a C compiler (gcc or clang) and an x86-64 "
    "processor with AVX2"
)


def library() -> Path | None:
    """The library of the operators; None where it was not built, for want of a compiler or on another processor."""
    return next(iter(sorted(Path(__file__).parent.glob("_operators.*"))), None)
