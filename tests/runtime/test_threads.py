"""Whose threads a session computes with, and that idle ones leave the machine alone. Each in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from seqport.runtime import ProviderError, Session

HEAD = """
import os, resource, sys, time
import numpy as np
import onnxruntime  # starts a thread of its own
from seqport.runtime import ProviderError, Session, share_threads

def threads():
    return len(os.listdir("/proc/self/task"))

def processor_seconds():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime

path = sys.argv[1]
feed = {"x": np.ones((8, 20, 3), np.float32), "lengths": np.full(8, 20)}
before = threads()
"""


def _python(code: str, *arguments: object) -> str:
    command = [sys.executable, "-c", HEAD + code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="threads are counted in /proc")
two_cores = pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="with one core nobody spins")


@linux
def test_one_thread_is_the_callers_own(artifact) -> None:
    code = "sessions = [Session(path, 'cpu', threads=1) for _ in range(5)]\nprint(threads() - before)"
    assert _python(code, artifact()) == "0\n"


@linux
def test_each_session_has_its_threads(artifact) -> None:
    code = "sessions = [Session(path, 'cpu', threads=3) for _ in range(5)]\nprint(threads() - before)"
    assert _python(code, artifact()) == "10\n"


@linux
def test_sessions_share_one_pool(artifact) -> None:
    code = """
share_threads(3)
share_threads(3)
alone = Session(path, "cpu")
sessions = [Session(path, "cpu") for _ in range(5)]
print(threads() - before, alone.run(feed)["output"].shape)
for wrong in (lambda: share_threads(4), lambda: share_threads(), lambda: Session(path, "cpu", threads=2)):
    try:
        wrong()
    except ProviderError as error:
        print(error)
"""
    counted, *said = _python(code, artifact()).splitlines()
    assert counted == "2 (8, 20, 5)"
    assert said == [
        "this process's pool has 3 threads, and ONNX Runtime cannot replace it (by 4 threads)",
        "this process's pool has 3 threads, and ONNX Runtime cannot replace it (by one thread a core)",
        "threads is 2, but all sessions of this process share one pool (3 threads): leave threads out",
    ]


def test_a_pool_that_another_library_made_is_shared_too(artifact) -> None:
    code = """
import onnxruntime
onnxruntime.set_global_thread_pool_sizes(2, 1)
print(Session(path, "cpu").run(feed)["output"].shape)
for wrong in (lambda: Session(path, "cpu", threads=2), lambda: share_threads(2)):
    try:
        wrong()
    except ProviderError as error:
        print(error)
"""
    assert _python(code, artifact()).splitlines() == [
        "(8, 20, 5)",
        "threads is 2, but all sessions of this process share one pool: leave threads out",
        "another part of this process has made its pool, and ONNX Runtime cannot replace it: "
        "sessions share that one without this call",
    ]


@linux
@two_cores
@pytest.mark.parametrize("spin", [False, True])
def test_idle_threads_sleep_unless_asked_to_spin(artifact, spin) -> None:
    """A request every 10 ms: processor time beyond the requests' own is what spinning takes from the host."""
    code = """
session = Session(path, "cpu", threads=2, spin=sys.argv[2] == "True")
feed = {"x": np.ones((128, 20, 3), np.float32), "lengths": np.full(128, 20)}  # enough for two threads
session.run(feed)
time.sleep(0.1)
start = processor_seconds()
for _ in range(40):
    session.run(feed)
    time.sleep(0.01)
print((processor_seconds() - start) / 40)
"""
    seconds = float(_python(code, artifact(), spin))
    # Measured: 0.7 ms asleep, 11 ms spinning, which is the whole time from one request to the next.
    assert (seconds > 0.003) == spin, f"{1000 * seconds:.2f} ms of processor time a request"


def test_an_unknown_memory_mode(artifact) -> None:
    with pytest.raises(ProviderError, match="memory is 'arena', expected one of \"keep\" \\(a session keeps"):
        Session(artifact(), "cpu", memory="arena")
