"""The package itself: its public names, and what importing it costs."""

from __future__ import annotations

import subprocess
import sys

import seqport.models

FRAMEWORKS = ("torch", "tensorflow", "keras", "onnx", "onnxruntime", "safetensors")


def test_the_public_names():
    assert seqport.models.__all__ == sorted(seqport.models.__all__)
    assert all(hasattr(seqport.models, name) for name in seqport.models.__all__)


def test_importing_it_loads_no_framework():
    code = "import sys, seqport.models, seqport.models.oracle; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not set(FRAMEWORKS) & set(loaded.stdout.split())
