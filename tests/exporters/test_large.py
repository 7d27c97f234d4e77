"""A model that is really above what protobuf holds: exported, lifted, checked and run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

# Of the table alone, in float32.
_BYTES, _ROWS = 2_220_000_000, 1_850_000


@pytest.mark.large
@pytest.mark.parametrize(
    ("way", "factor", "tolerance"), [("plain", 1.0, 1e-5), ("converted", 1.0, 1e-5), ("float16", 0.5, 1e-3)]
)
def test_more_than_two_gigabytes(way: str, factor: float, tolerance: float, tmp_path: Path) -> None:
    _judge("large_model.py", way, factor, tolerance, 9e9, tmp_path)


@pytest.mark.large
@pytest.mark.parametrize("way", ["keras", "function"])
def test_more_than_two_gigabytes_from_tensorflow(way: str, tmp_path: Path) -> None:
    _judge("large_keras_model.py", way, 1.0, 1e-5, 1e10, tmp_path)


def _judge(name: str, way: str, factor: float, tolerance: float, peak: float, tmp_path: Path) -> None:
    script = Path(__file__).with_name(name)
    command = [sys.executable, str(script), str(tmp_path), str(_ROWS), way]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    print(f"\n{way}: {found['files']}, peak {found['peak'] / 1e9:.2f} GB, difference {found['difference']:.2g}")
    size = found["files"].pop("m.onnx") + found["files"].pop("m.onnx.data", 0)
    assert not found["files"], "something was left behind"
    assert factor * _BYTES <= size < factor * _BYTES * 1.01
    assert found["difference"] < tolerance
    assert found["peak"] < peak
