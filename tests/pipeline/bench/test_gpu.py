"""The GPU half: said where there is no GPU, and its contestants, which run here on the CPU in its place."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from seqport.pipeline.bench import gpu
from seqport.pipeline.bench.cases import CELLS, Case, Network, draw
from seqport.pipeline.bench.contestants import bound, cudnn, entries_for, pytorch, sessions
from seqport.pipeline.bench.contestants.entry import PACKED
from seqport.runtime import Session, cuda


@pytest.fixture
def on_cpu(monkeypatch):
    """What is meant for CUDA finds the CPU."""
    monkeypatch.setattr(cudnn._OnCuda, "device", "cpu")
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(bound, "_PROVIDERS", ["CPUExecutionProvider"])
    monkeypatch.setattr(bound, "_DEVICE", "cpu")
    asked = []
    for module in (bound, sessions):
        monkeypatch.setattr(module, "Session", lambda path, provider: asked.append(provider) or Session(path, "cpu"))
    yield
    assert set(asked) <= {"cuda"}


def test_without_a_gpu_it_says_why_and_ends_well(seqport, monkeypatch, tmp_path):
    monkeypatch.setattr(cuda, "problem", lambda _: "there is no NVIDIA driver: install it")
    code, out, _ = seqport("bench", "gpu", "--folder", tmp_path)
    assert code == 0
    assert out == "the GPU half of the benchmark was not run: there is no NVIDIA driver: install it\n"


def test_the_cases():
    found = gpu.cases()
    assert len(found) == 3 * 2 * (1 + 2 * 6) and {case.network.cell for case in found} == set(CELLS)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.usefixtures("on_cpu")
def test_the_contestants_answer_alike(tmp_path, cell, bidirectional):
    network = Network(cell, 8, bidirectional)
    pytorch.export(network, sessions.artifact_path(tmp_path, network))
    case = Case(network, batch=5, steps=9, fill=1.0 if bidirectional else 0.5)
    entries = entries_for(case, "cuda")
    assert len(entries) == 9
    _compare(case, entries, tmp_path)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.usefixtures("on_cpu")
def test_streams_answer_alike(tmp_path, cell):
    network = Network(cell, 8, with_state=True)
    pytorch.export(network, sessions.artifact_path(tmp_path, network))
    case = Case(network, "stream", steps=1)
    _compare(case, entries_for(case, "cuda"), tmp_path)


def _compare(case, entries, folder):
    inputs = draw(case)
    reference = pytorch.Packed(case.network, folder).prepare(case, inputs).answer()
    for entry in entries:
        modules = {"bound": bound, "cudnn": cudnn, "pytorch": pytorch, "sessions": sessions}
        module, kind = entry.maker.rpartition(".")[2].split(":")
        prepared = getattr(modules[module], kind)(case.network, folder).prepare(case, inputs)
        prepared.call()
        np.testing.assert_allclose(prepared.answer(), reference, atol=1e-6, err_msg=entry.name)
    assert PACKED in [entry.name for entry in entries]


def test_artifacts_can_be_made_for_another_machine(seqport, tmp_path, monkeypatch):
    network = Network("gru", 8)
    monkeypatch.setattr(gpu, "cases", lambda: [Case(network, batch=2), Case(network, batch=3)])
    code, out, err = seqport("bench", "gpu", "--export-only", "--folder", tmp_path)
    assert (code, out) == (0, "") and "export 1/1: gru-8.onnx" in err
    assert Session(tmp_path / "gru-8.onnx", "cpu").placement
