"""Where "auto" runs what CUDA has no kernel for: the faster one of its rewritten form and the CPU."""

from __future__ import annotations

import numpy as np
import pytest

from seqport.runtime import Session, auto

from .machines import Fake

pytestmark = pytest.mark.usefixtures("forget")
NO_KERNEL = {"RNN"}
RELU = {"activations": ["Relu"]}


def _batch() -> dict[str, np.ndarray]:
    x = np.random.default_rng(0).normal(size=(3, 4, 3)).astype(np.float32)
    return {"x": x, "lengths": np.array([4, 1, 3])}


@pytest.fixture
def timed(monkeypatch):
    """Both run; the clock says what the test wants, the CPU first."""

    def make(on_cpu: float, on_gpu: float) -> list[float]:
        asked: list[float] = []

        def seconds(call) -> float:
            call()
            asked.append((on_cpu, on_gpu)[len(asked) % 2])
            return asked[-1]

        monkeypatch.setattr(auto, "_seconds", seconds)
        return asked

    return make


def test_the_gpu_where_it_is_faster(artifact, gpu, timed) -> None:
    path = artifact("rnn", attributes=RELU)
    expected = Session(path, "cpu").run(_batch())
    gpu(places=NO_KERNEL)
    asked = timed(0.042, 0.011)
    session = Session(path)
    assert (session.provider, session.placement) == ("cuda:0", {"recurrent": "cuda:0"})
    assert isinstance(session._model.session, Fake), "and that is what runs"
    assert session.provider_note == (
        "rewritten to stay on cuda:0: recurrent (the activations Relu); "
        "32 made-up rows of 64 steps took 11 ms, and 42 on the CPU"
    )
    assert len(asked) == 6, "three rounds of both"
    for name, value in session.run(_batch()).items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("on_gpu", [0.007, 0.0081])
def test_the_cpu_where_the_gpu_is_not_clearly_faster(artifact, gpu, timed, on_gpu) -> None:
    gpu(places=NO_KERNEL)
    timed(0.0085, on_gpu)
    session = Session(artifact("rnn", attributes=RELU))
    assert (session.provider, session.placement, session.kernels_note) == ("cpu", {"recurrent": "cpu"}, "")
    assert "(the activations Relu), which would run on the CPU" in session.provider_note
    said = f"32 made-up rows of 64 steps took {1e3 * on_gpu:.2g} ms, and 8.5 on the CPU"
    assert session.provider_note.endswith(said)


@pytest.mark.parametrize(
    "asked",
    [{"provider": "cpu"}, {"cuda_rewrite": False}, {"kernels": "seqport"}, {"packing": "on", "kernels": "onnxruntime"}],
)
def test_nothing_is_timed_where_it_was_said_what_to_do(artifact, gpu, timed, asked) -> None:
    gpu(places=NO_KERNEL)
    times = timed(0.062, 0.011)
    assert Session(artifact("rnn", attributes=RELU), **asked).provider == "cpu"
    assert not times


def test_nor_where_there_is_no_gpu(artifact, timed, machine) -> None:
    times = timed(0.062, 0.011)
    machine(driver=OSError("libcuda.so.1: cannot open"))
    assert Session(artifact("rnn", attributes=RELU)).provider == "cpu"
    assert not times


def test_a_model_that_cannot_be_rewritten_stays(artifact, gpu, timed) -> None:
    gpu(places={"recurrent": "CPUExecutionProvider"})
    times = timed(0.062, 0.011)
    assert Session(artifact("lstm")).provider == "cpu"
    assert not times


def test_one_round_decides_where_one_is_much_faster(artifact, gpu, timed) -> None:
    gpu(places=NO_KERNEL)
    asked = timed(0.062, 0.011)
    assert Session(artifact("rnn", attributes=RELU)).provider == "cuda:0"
    assert len(asked) == 2


def test_the_note_has_the_sizes_that_ran(artifact, gpu, timed) -> None:
    gpu(places=NO_KERNEL)
    timed(0.042, 0.011)
    assert "; 32 made-up rows of 7 steps took" in Session(artifact("rnn", attributes=RELU, seq=7)).provider_note


def test_a_plain_file_has_no_rows_to_make_up(artifact, gpu, timed) -> None:
    gpu(places=NO_KERNEL)
    times = timed(0.042, 0.011)
    assert Session(artifact("rnn", attributes=RELU, metadata="")).provider == "cpu"
    assert not times


def test_a_gpu_that_fails_at_the_trial_is_left_with_the_reason(artifact, gpu, monkeypatch) -> None:
    gpu(places=NO_KERNEL)

    def fails(*_calls) -> list[float]:
        raise RuntimeError("CUDA failure 2: out of memory")

    monkeypatch.setattr(auto, "_medians", fails)
    session = Session(artifact("rnn", attributes=RELU))
    assert session.provider == "cpu"
    assert session.provider_note.endswith("; not tried rewritten on cuda:0: CUDA failure 2: out of memory")


def test_a_gpu_that_computes_wrongly_is_left(artifact, gpu, timed, monkeypatch) -> None:
    gpu(places=NO_KERNEL)
    timed(0.042, 0.011)

    def run(self, names, feed):
        answers = self._session.run(names, feed)
        return answers if "X" in feed else [np.full_like(value, np.nan) for value in answers]  # X: the trial's

    monkeypatch.setattr(Fake, "run", run, raising=False)
    session = Session(artifact("rnn", attributes=RELU))
    assert session.provider == "cpu"
    assert "not tried rewritten on cuda:0: a trial inference differs from the CPU's answer" in session.provider_note
