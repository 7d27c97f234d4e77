"""How many cores this process may use, where that is fewer than the machine has.

ONNX Runtime counts the machine's cores, whatever a container is allowed: in one with two of 64, it would start 64
threads that wait for each other.
"""

from __future__ import annotations

import contextlib
import math
import os
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")
_MEMBERSHIP = Path("/proc/self/cgroup")


def allowed() -> int | None:
    """The cores that the process may use, rounded up; None where it may use all of them, or nothing says so."""
    limits = [quota for quota in _quotas() if quota > 0]
    with contextlib.suppress(AttributeError):  # not on macOS and Windows
        limits.append(len(os.sched_getaffinity(0)))
    fewest = max(1, math.ceil(min(limits))) if limits else None
    return fewest if fewest is not None and fewest < (os.cpu_count() or 1) else None


def _quotas() -> list[float]:
    """The processor time that each of the process's control groups has, in cores."""
    found = []
    for line in _read(_MEMBERSHIP).splitlines():
        _, controllers, path = line.split(":", 2)
        group = Path(path.lstrip("/"))
        for folder in (group, *group.parents):  # a parent's limit holds too
            if not controllers:  # cgroup v2: "max 100000", or "200000 100000"
                quota, _, period = _read(_ROOT / folder / "cpu.max").partition(" ")
            elif "cpu" in controllers.split(","):  # cgroup v1
                of_cpu = _ROOT / "cpu" / folder
                quota, period = _read(of_cpu / "cpu.cfs_quota_us"), _read(of_cpu / "cpu.cfs_period_us")
            else:
                continue
            with contextlib.suppress(ValueError):  # "max", or no such file
                found.append(int(quota) / int(period))
    return found


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
