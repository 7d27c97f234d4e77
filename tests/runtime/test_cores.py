"""What a container may use: the machine's cores are not the process's."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from seqport.runtime import cores

V1 = "9:name=systemd:/\n4:memory:/m\n3:cpu,cpuacct:/docker/a\n"


@pytest.mark.parametrize(
    ("membership", "files", "expected"),
    [
        ("0::/\n", {"cpu.max": "200000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "10000 100000\n"}, 1),
        ("0::/\n", {"cpu.max": "max 100000\n"}, None),
        ("0::/\n", {"cpu.max": "900000 100000\n"}, None),  # more than there are
        ("0::/\n", {}, None),
        ("0::/a/b\n", {"a/cpu.max": "300000 100000\n", "a/b/cpu.max": "max 100000\n"}, 3),
        (V1, {"cpu/docker/a/cpu.cfs_quota_us": "200000\n", "cpu/docker/a/cpu.cfs_period_us": "50000\n"}, 4),
        (V1, {"cpu/docker/a/cpu.cfs_quota_us": "-1\n", "cpu/docker/a/cpu.cfs_period_us": "100000\n"}, None),
        ("", {}, None),
    ],
)
def test_the_quota_of_a_container(tmp_path, monkeypatch, membership, files, expected) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "membership").write_text(membership)
    monkeypatch.setattr(cores, "_ROOT", tmp_path)
    monkeypatch.setattr(cores, "_MEMBERSHIP", tmp_path / "membership")
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(8)), raising=False)
    assert cores.allowed() == expected


def test_affinity_counts_too(monkeypatch) -> None:
    monkeypatch.setattr(cores, "_quotas", lambda: [6.0])
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {3, 5}, raising=False)
    assert cores.allowed() == 2
    monkeypatch.delattr(os, "sched_getaffinity")
    assert cores.allowed() == 6


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="affinity is Linux's")
def test_a_session_starts_threads_for_the_cores_that_it_may_use(artifact) -> None:
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("one core")
    code = """
import os, sys
import onnxruntime
from seqport.runtime import Session
before = len(os.listdir("/proc/self/task"))
first = Session(sys.argv[1], "cpu")
with_all = len(os.listdir("/proc/self/task")) - before
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
second = Session(sys.argv[1], "cpu")
print(with_all > 0, len(os.listdir("/proc/self/task")) - before - with_all)
"""
    done = subprocess.run([sys.executable, "-c", code, str(artifact())], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("True 0\n", "")
