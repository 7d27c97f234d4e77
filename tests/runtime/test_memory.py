"""Resident memory over many runs of random batch sizes and lengths.

`make test` tries 1,500 runs a mode; `make test-memory` 10,000 (SEQPORT_RUNS), and prints what it measured.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="resident memory is read from /proc")

RUNS = int(os.environ.get("SEQPORT_RUNS", "1500"))
WIDTH, ROWS, STEPS = 2048, 32, 64
# What the largest run holds at one time: two tensors of [steps, batch, WIDTH], float32.
LARGEST = 2 * WIDTH * ROWS * STEPS * 4 / 2**20  # MiB

CODE = """
import json, sys, time
import numpy as np
from seqport.runtime import Session

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 / 2**20

path, memory, runs, count, rows, steps = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:])
sessions = [Session(path, "cpu", memory=memory, threads=1) for _ in range(count)]
random = np.random.default_rng(0)

def run(index, b, t):
    x = random.normal(size=(b, t, 2)).astype(np.float32)
    start = time.perf_counter()
    sessions[index % count].run({"x": x, "lengths": random.integers(1, t + 1, b)})
    return time.perf_counter() - start

for index in range(count):
    run(index, 8, 8)  # a ragged batch: the first one makes the packed form, and imports onnx
first, seen, seconds = resident(), [], 0.0
for index in range(runs):
    seconds += run(index, int(random.integers(1, rows + 1)), int(random.integers(1, steps + 1)))
    seen.append(resident() - first)
print(json.dumps({"peak": max(seen), "half": max(seen[: runs // 2]), "ms": 1000 * seconds / runs}))
"""


@dataclass(frozen=True)
class Measured:
    """MiB above what the sessions took after one small ragged run each."""

    peak: float
    half: float  # the peak of the first half of the runs
    ms: float  # a run


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """A small LSTM whose outputs are blown up to a wide activation, and averaged again."""
    random = np.random.default_rng(0)
    shapes = {"W": (1, 8, 2), "R": (1, 8, 2), "wide": (WIDTH,)}
    weights = {name: random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    node = helper.make_node
    nodes = [
        node("Cast", ["lengths"], ["lens"], to=TensorProto.INT32),
        node("Transpose", ["x"], ["xs"], perm=[1, 0, 2]),
        node("LSTM", ["xs", "W", "R", "", "lens"], ["Y"], hidden_size=2),
        node("ReduceMean", ["Y"], ["small"], axes=[1, 3], keepdims=0),
        node("Unsqueeze", ["small", "last"], ["column"]),
        node("Mul", ["column", "wide"], ["first"]),  # [steps, batch, WIDTH]
        node("Neg", ["first"], ["second"]),
        node("ReduceMax", ["second"], ["y"], axes=[0, 2], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "wide",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", "seq", 2]),
            helper.make_tensor_value_info("lengths", TensorProto.INT64, ["batch"]),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch"])],
        [*(numpy_helper.from_array(v, k) for k, v in weights.items()), numpy_helper.from_array(np.array([2]), "last")],
    )
    path = tmp_path_factory.mktemp("memory") / "wide.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def measure(model: Path, memory: str, *, sessions: int = 1) -> Measured:
    arguments = [model, memory, RUNS, sessions, ROWS, STEPS]
    done = subprocess.run(
        [sys.executable, "-c", CODE, *map(str, arguments)], capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    found = Measured(**json.loads(done.stdout))
    print(
        f"\n{memory!r}, {sessions} session(s), {RUNS} runs: peak {found.peak:.0f} MiB, "
        f"{found.peak / LARGEST:.2f} of the largest run's; {found.ms:.2f} ms a run"
    )
    return found


def test_kept_memory_has_a_bound(model) -> None:
    found = measure(model, "keep")
    assert found.peak <= 2 * LARGEST
    assert found.peak - found.half <= 0.25 * LARGEST, "it still grows"


def test_sessions_that_share_have_one_bound(model) -> None:
    found = measure(model, "share", sessions=4)
    assert found.peak <= 2 * LARGEST


def test_sessions_that_release_leave_room_for_each_other(model) -> None:
    found = measure(model, "release", sessions=4)
    assert found.peak <= 2.5 * LARGEST
