"""What was measured where: the machine, the versions, and a digest that tells one setup from another."""

from __future__ import annotations

import hashlib
import os
import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).parents[2]  # seqport's own folder
_PACKAGES = (
    *("numpy", "onnxruntime-gpu", "onnxruntime", "torch", "tensorflow", "keras", "tf2onnx", "openvino", "onnx"),
)
# What changes how many threads a framework takes, or how they wait.
_VARIABLES = (
    *("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OPENBLAS_CORETYPE"),
    *("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "CUDA_VISIBLE_DEVICES"),
)
# What a measurement depends on; how it is shown may change afterwards.
_SOURCES = (
    *("exporters/**/*.py", "runtime/**/*.py", "pipeline/bench/contestants/*.py"),
    *(f"pipeline/bench/{name}.py" for name in ("cases", "networks", "race", "worker", "workers")),
)


def describe() -> dict[str, Any]:
    """The machine and what is installed on it, as a page shows it."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gb": _memory_gb(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": dict(_versions()),
        "variables": {name: os.environ[name] for name in _VARIABLES if name in os.environ},
        "date": datetime.now(UTC).date().isoformat(),
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    }


def setup(description: dict[str, Any]) -> str:
    """A digest of the machine, the versions and the measured code: results of another setup are not mixed in."""
    hasher = hashlib.sha256()
    lasting = {name: value for name, value in description.items() if name not in ("date", "load")}
    hasher.update(repr(sorted(lasting.items())).encode())
    for path in sorted(path for pattern in _SOURCES for path in _ROOT.glob(pattern)):
        hasher.update(path.relative_to(_ROOT).as_posix().encode() + path.read_bytes())
    return hasher.hexdigest()[:16]


def _versions() -> list[tuple[str, str]]:
    found = []
    for name in _PACKAGES:
        try:
            found.append((name, version(name)))
        except PackageNotFoundError:
            continue
    return found


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor() or platform.machine()
    fields = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    named = {name.strip(): value.strip() for name, value in fields.items()}
    name = named.get("model name", platform.machine())
    wide = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_tile") if flag in named.get("flags", "").split()]
    return f"{name} ({', '.join(wide)})" if wide else name


def _memory_gb() -> int | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9)
    except (AttributeError, ValueError, OSError):
        return None
