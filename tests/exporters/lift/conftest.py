"""Files that other exporters write, made once, and their comparison with what was lifted out of them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from support.checks import assert_same

# (batch, seq), none of them a shape of the proof.
SHAPES = ((1, 3), (6, 4), (2, 13))

Write = Callable[[str, list[str]], Path]
Compare = Callable[..., None]


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Write:
    """Run one of the scripts beside this file, once for all its names; frameworks set options for a whole process."""
    folders: dict[tuple[str, ...], Path] = {}

    def write(script: str, names: list[str]) -> Path:
        key = (script, *names)
        if key not in folders:
            folder = tmp_path_factory.mktemp(script)
            command = [sys.executable, str(Path(__file__).parent / f"{script}.py"), str(folder), *names]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr[-3000:]
            folders[key] = folder
        return folders[key]

    return write


@pytest.fixture(scope="session")
def compare() -> Compare:
    """Both files give the same answers at shapes, lengths and masks that the proof did not see."""

    def run(one: Path, other: Path, shapes: Sequence[tuple[int, int]] = SHAPES) -> None:
        sessions = [ort.InferenceSession(str(path), providers=["CPUExecutionProvider"]) for path in (one, other)]
        onnx.checker.check_model(onnx.load(other), full_check=True)
        time_major = "time_major" in one.name
        for number, shape in enumerate(shapes):
            feeds = _draw(sessions[0], *shape, number, time_major=time_major)
            expected, found = ([np.asarray(a) for a in session.run(None, feeds)] for session in sessions)
            assert_same(found, expected, f"{one.name} at {shape}")

    return run


def operators(path: Path) -> list[str]:
    """Every operator of a file, those of subgraphs too."""

    def walk(graph: onnx.GraphProto) -> list[str]:
        found = [node.op_type for node in graph.node]
        for item in (item for node in graph.node for item in node.attribute if item.type == item.GRAPH):
            found += walk(item.g)
        return found

    return walk(onnx.load(path).graph)


@pytest.fixture(scope="session")
def operators_of() -> Callable[[Path], list[str]]:
    return operators


def _draw(
    session: ort.InferenceSession, batch: int, seq: int, seed: int, *, time_major: bool
) -> Mapping[str, np.ndarray]:
    random = np.random.default_rng(100 + seed)
    feeds: dict[str, np.ndarray] = {}
    for item in session.get_inputs():
        sizes = (seq, batch) if time_major and len(item.shape) == 3 else (batch, seq)
        shape = [size if isinstance(size, int) else sizes[min(i, 1)] for i, size in enumerate(item.shape)]
        if "int" in item.type:
            values = random.integers(0, seq + 1, shape)
            values[0] = seq
            feeds[item.name] = values.astype(np.int32 if "32" in item.type else np.int64)
        elif "bool" in item.type:
            feeds[item.name] = random.random(shape) < 0.6
        else:
            feeds[item.name] = random.standard_normal(shape).astype(np.float32)
    return feeds
