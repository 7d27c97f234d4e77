"""The same model gives the same bytes: again in one process, and in another whose sets and dicts hash otherwise."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("framework", ["pytorch", "keras"])
def test_two_processes_and_two_exports_in_each(framework: str, tmp_path: Path) -> None:
    script, found = Path(__file__).with_name("same_bytes.py"), []
    for seed in ("1", "2"):
        (folder := tmp_path / seed).mkdir()
        done = subprocess.run(
            [sys.executable, str(script), framework, str(folder)],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        found.append(json.loads(done.stdout.splitlines()[-1]))
    first = found[0]["first"]
    assert "beside.onnx.data" in first
    assert found == [{"first": first, "second": first}] * 2
