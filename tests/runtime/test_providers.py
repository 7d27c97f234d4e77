"""Which provider runs a model: never the CPU in silence, and a reason for whatever cannot be had."""

from __future__ import annotations

import importlib.util
import re
import types
from typing import Any, cast

import numpy as np
import onnx
import pytest

from seqport.runtime import ArtifactError, ProviderError, Session, cuda
from seqport.runtime import providers as module
from seqport.runtime.providers import parse

from .machines import Driver, subgraph

pytestmark = pytest.mark.usefixtures("forget")


def test_providers_in_order() -> None:
    assert parse("auto") == parse(["cuda", "cpu"]) == parse(["cuda", "cuda:0", "cpu"]) == ("cuda:0", "cpu")
    assert parse("cuda:1") == ("cuda:1",)
    assert parse(("cpu", "cuda:2")) == ("cpu", "cuda:2")


@pytest.mark.parametrize(
    "wrong", ["gpu", "CPU", "cuda:", "cuda:-1", "CUDAExecutionProvider", ["cpu", "auto"], ["tpu"], [1]]
)
def test_an_unknown_provider(artifact, wrong) -> None:
    with pytest.raises(ProviderError, match='expected "auto", "cpu", "cuda", "cuda:<index>", or a list'):
        Session(artifact(), wrong)


def test_no_provider(artifact) -> None:
    with pytest.raises(ProviderError, match="provider is an empty list"):
        Session(artifact(), [])


@pytest.mark.parametrize("threads", [0, -1])
def test_no_threads(artifact, threads) -> None:
    with pytest.raises(ProviderError, match=rf"threads is {threads}, expected at least 1"):
        Session(artifact(), "cpu", threads=threads)


@pytest.mark.parametrize("provider", ["cuda:1", ["cuda:1", "cpu"]])
def test_cuda_that_works(artifact, gpu, provider) -> None:
    gpu(driver=Driver(devices=2))
    session = Session(artifact(), provider)
    assert (session.provider, session.provider_note) == ("cuda:1", "")
    assert session.placement == {"recurrent": "cuda:1"}
    fake = cast(Any, session)._model.session
    assert fake.asked == [("CUDAExecutionProvider", {"device_id": "1", "use_tf32": "0"}), "CPUExecutionProvider"]
    assert fake.options == {"enable_fallback": 0}


def test_auto_prefers_cuda(artifact, gpu) -> None:
    gpu()
    session = Session(artifact())
    assert (session.provider, session.provider_note) == ("cuda:0", "")


def test_cuda_that_silently_became_the_cpu(artifact, gpu) -> None:
    gpu(listed=["CPUExecutionProvider"])
    with pytest.raises(ProviderError, match="lists CUDA, but could not load it and fell back to the CPU"):
        Session(artifact(), "cuda")
    session = Session(artifact(), "auto")
    assert (session.provider, "fell back to the CPU" in session.provider_note) == ("cpu", True)


def test_the_real_onnxruntime_falls_back_in_silence_and_is_caught(artifact, monkeypatch) -> None:
    """No fake: where CUDA is listed but broken, only the session itself tells."""
    import onnxruntime

    if cuda.CUDA_PROVIDER not in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime is built without CUDA")
    if cuda.problem(0) is None:
        pytest.skip("CUDA works here")
    monkeypatch.setattr(cuda, "problem", lambda _device: None)
    with pytest.raises(ProviderError, match="lists CUDA, but could not load it and fell back to the CPU"):
        Session(artifact(), "cuda")


def test_recurrent_nodes_that_cuda_cannot_run(artifact, gpu) -> None:
    gpu(places={"good": "CUDAExecutionProvider", "stray": "CPUExecutionProvider"})
    with pytest.raises(ProviderError, match=r'no kernel for the recurrent nodes stray, .*\["cuda:0", "cpu"\] allows'):
        Session(artifact(), "cuda")
    allowed = Session(artifact(), ["cuda", "cpu"])
    assert (allowed.provider, allowed.placement) == ("cuda:0", {"good": "cuda:0", "stray": "cpu"})
    assert allowed.provider_note == "on the CPU: stray"
    auto = Session(artifact(), "auto")
    assert (auto.provider, "stray" in auto.provider_note) == ("cpu", True)


NO_KERNEL = {"RNN"}
RELU = {"activations": ["Relu"]}
SAID = r"recurrent \(the activations Relu\)"


def _batch() -> dict[str, np.ndarray]:
    x = np.random.default_rng(0).normal(size=(3, 4, 3)).astype(np.float32)
    return {"x": x, "lengths": np.array([4, 1, 3])}


@pytest.mark.parametrize("provider", ["cuda", ["cuda", "cpu"]])
def test_what_cuda_has_no_kernel_for_is_rewritten_where_cuda_was_asked_for(artifact, gpu, provider) -> None:
    path = artifact("rnn", attributes=RELU)
    expected = Session(path, "cpu").run(_batch())
    gpu(places=NO_KERNEL)
    session = Session(path, provider)
    assert (session.provider, session.placement) == ("cuda:0", {"recurrent": "cuda:0"})
    assert session.provider_note == "rewritten to stay on cuda:0: recurrent (the activations Relu)"
    for name, value in session.run(_batch()).items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-6, atol=1e-6)


def test_a_rewritten_node_is_on_the_gpu_where_all_of_its_steps_are(artifact, gpu) -> None:
    gpu(places={"Relu"})
    path = artifact("rnn", attributes=RELU)
    with pytest.raises(ProviderError, match="no kernel for the recurrent nodes recurrent, which would run on the CPU"):
        Session(path, "cuda")
    mixed = Session(path, ["cuda", "cpu"])
    assert (mixed.provider, mixed.placement) == ("cuda:0", {"recurrent": "cpu"})


def test_and_else_only_named_before_any_request(artifact, gpu) -> None:
    gpu(places=NO_KERNEL)
    path = artifact("rnn", attributes=RELU)
    with pytest.raises(ProviderError, match=rf"nodes {SAID}, which would run on the CPU: .*cuda_rewrite=True rewrites"):
        Session(path, "cuda", cuda_rewrite=False)
    auto = Session(path)
    assert (auto.provider, auto.placement) == ("cpu", {"recurrent": "cpu"})
    assert re.search(SAID, auto.provider_note)
    assert Session(path, cuda_rewrite=True).placement == {"recurrent": "cuda:0"}
    mixed = Session(path, ["cuda", "cpu"], cuda_rewrite=False)
    assert (mixed.provider, mixed.placement) == ("cuda:0", {"recurrent": "cpu"})
    assert mixed.provider_note == "on the CPU: recurrent (the activations Relu)"


def test_without_onnx_nodes_are_named_after_opening(artifact, gpu, monkeypatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnx" else real(name))
    gpu(places=NO_KERNEL)
    with pytest.raises(ProviderError, match=r"nodes recurrent, which would run on the CPU \(pip install onnx to have"):
        Session(artifact("rnn", attributes=RELU), "cuda")


def test_weights_beside_the_file_are_found_by_a_rewritten_model(artifact, gpu, tmp_path) -> None:
    path = artifact("rnn", attributes=RELU, head=False)
    expected = Session(path, "cpu").run(_batch())
    (tmp_path / "apart").mkdir()
    apart = tmp_path / "apart/m.onnx"
    onnx.save(onnx.load(path), apart, save_as_external_data=True, location="m.data", size_threshold=0)
    gpu(places=NO_KERNEL)
    session = Session(apart, "cuda")
    assert session.placement == {"recurrent": "cuda:0"}
    np.testing.assert_allclose(session.run(_batch())["h_T"], expected["h_T"], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("of", "said"),
    [
        ({"on_trial_fault": RuntimeError("CUDNN_STATUS_NOT_INITIALIZED")}, "LSTM on it failed: CUDNN_STATUS_NOT_INIT"),
        (
            {"wrong": True},
            "a trial of a small LSTM on it differs from the CPU's answer by nan, expected at most 0.0001",
        ),
    ],
)
def test_cuda_that_loads_and_cannot_run_an_lstm(artifact, gpu, of, said) -> None:
    gpu(**of)
    with pytest.raises(ProviderError, match=f"cuda:0 cannot run it: .*{said}"):
        Session(artifact(), "cuda")
    auto = Session(artifact())
    assert (auto.provider, said in auto.provider_note) == ("cpu", True)


def test_cuda_that_fails_to_open(artifact, gpu) -> None:
    gpu(fault=RuntimeError("CUDA failure 2: out of memory"))
    with pytest.raises(ProviderError, match="cuda:0 cannot run it: CUDA failure 2: out of memory"):
        Session(artifact(), "cuda")
    assert Session(artifact(), "auto").provider == "cpu"


def test_a_bad_file_is_not_blamed_on_cuda(tmp_path, gpu) -> None:
    gpu(fault=RuntimeError("Load model failed"))
    path = tmp_path / "looks.onnx"
    path.write_bytes(b"\x08\x09" + b"\x3a\x04abcd")
    with pytest.raises(ArtifactError, match=r"looks\.onnx cannot be opened"):
        Session(path, "cuda")


def test_unnamed_nodes_are_all_placed() -> None:
    subgraphs = [
        subgraph("CPUExecutionProvider", ""),
        subgraph("CUDAExecutionProvider", "twin"),
        subgraph("CPUExecutionProvider", "twin"),
    ]
    session = types.SimpleNamespace(get_provider_graph_assignment_info=lambda: subgraphs)
    placement = module._placement(cast(Any, session), "cuda:0")
    assert placement == {"LSTM_0": "cpu", "twin": "cuda:0", "twin_2": "cpu"}
