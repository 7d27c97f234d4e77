"""Which provider runs a model: never the CPU in silence, and a reason for whatever cannot be had."""

from __future__ import annotations

import ctypes
import importlib.util
import re
import shutil
import subprocess
import sys
import types
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
import pytest

from seqport.runtime import ArtifactError, ProviderError, Session, cuda, trial
from seqport.runtime import providers as module
from seqport.runtime.providers import parse

ALL_ON_CUDA = {"recurrent": "CUDAExecutionProvider"}
WITH_CUDA = ["CUDAExecutionProvider", "CPUExecutionProvider"]


@pytest.fixture(autouse=True)
def forget():
    """Each test sees another machine, so nothing may be remembered."""
    for remembered in (cuda.problem, trial.problem):
        remembered.cache_clear()
    yield
    for remembered in (cuda.problem, trial.problem):
        remembered.cache_clear()


class Driver:
    """A driver that shows some devices."""

    def __init__(self, devices: int = 1, version: int = 99000, code: int = 0) -> None:
        self.devices, self.version, self.code = devices, version, code

    def cuInit(self, _flags: int) -> int:  # noqa: N802
        return self.code

    def cuDeviceGetCount(self, count) -> int:  # noqa: N802
        ctypes.cast(count, ctypes.POINTER(ctypes.c_int))[0] = self.devices
        return 0

    def cuDriverGetVersion(self, version) -> int:  # noqa: N802
        ctypes.cast(version, ctypes.POINTER(ctypes.c_int))[0] = self.version
        return 0


@pytest.fixture
def machine(monkeypatch):
    """A machine as described; by default one where CUDA works as far as can be seen."""

    def make(
        *,
        driver=None,
        missing="",
        cudnn=True,
        providers=WITH_CUDA,
        built="13.0",
        packages=("onnxruntime-gpu",),
        wheels: dict[str, bool] | None = None,
    ):
        """`wheels`: folders to search, each with whether all libraries can be had once it was looked into."""
        import onnxruntime

        looked: list[str] = []

        def whole() -> bool:
            return any((wheels or {})[folder] for folder in looked)

        def preload(directory=None) -> None:
            if directory is not None:
                looked.append(directory)
            if not whole():
                print(missing)

        def load(name: str):
            if "cudnn" in name:
                if not cudnn and not whole():
                    raise OSError(f"{name}: cannot open shared object file")
                return None
            if driver is None:
                return Driver()
            if isinstance(driver, Exception):
                raise driver
            return driver

        monkeypatch.setattr(cuda, "_load", load)
        monkeypatch.setattr(cuda, "_version", lambda name: "1.31.1" if name in packages else None)
        monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: providers)
        monkeypatch.setattr(onnxruntime, "cuda_version", built, raising=False)
        monkeypatch.setattr(onnxruntime, "preload_dlls", preload)
        monkeypatch.setattr(cuda, "library_folders", lambda: [Path(folder) for folder in wheels or ()])
        return looked

    return make


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


@pytest.mark.parametrize(
    ("of", "match"),
    [
        ({"providers": WITH_CUDA[1:], "packages": ("onnxruntime",)}, "built without CUDA: pip uninstall onnxruntime, "),
        (
            {"driver": OSError("libcuda.so.1: cannot open")},
            r"NVIDIA driver \(libcuda.so.1: cannot open\): install",
        ),
        ({"driver": Driver(devices=0)}, "there is no device 0: the driver shows 0 of them"),
        ({"driver": Driver(code=100)}, "there is no device 0: the driver shows 0 of them"),
        ({"driver": Driver(code=803)}, "the NVIDIA driver fails with CUDA error 803: see whether nvidia-smi works"),
        ({"driver": Driver(version=12080)}, "supports CUDA up to 12.8, and this ONNX Runtime is built for CUDA 13.0"),
        (
            {"missing": "Failed to load libcublas.so.13: no such file\nFailed to load libcurand.so.10: no such file"},
            r"libcublas.so.13, libcurand.so.10 cannot be loaded.*pip install 'onnxruntime-gpu\[cuda,cudnn\]'",
        ),
        ({"cudnn": False}, "cudnn.* cannot be loaded, and this ONNX Runtime is built for CUDA 13.0 with cuDNN 9"),
    ],
)
def test_why_cuda_cannot_be_had(artifact, machine, of, match, capfd) -> None:
    path = artifact()
    machine(**of)
    with pytest.raises(ProviderError, match=rf"(?s)cuda:0 cannot run it: .*{match}.*asked for provider='cuda'"):
        Session(path, "cuda")
    session = Session(path, "auto")
    assert session.provider == "cpu"
    assert re.search(match, session.provider_note, re.DOTALL)
    assert capfd.readouterr() == ("", ""), "an expected fallback is no noise"


def test_an_older_minor_version_of_the_driver_will_do(machine) -> None:
    machine(driver=Driver(version=13000), built="13.2")
    assert cuda.problem(0) is None


def test_a_library_found_on_the_loaders_path_is_not_missing(machine) -> None:
    machine(missing="Failed to load /site/nvidia/cublas/lib/libcublas.so.13: damaged")
    assert cuda.problem(0) is None


def test_libraries_of_other_wheels_are_found(machine) -> None:
    wheels = {"/torch/lib": False, "/user/nvidia/cudnn/lib": True, "/user/nvidia/cu13/lib": True}
    looked = machine(cudnn=False, missing="Failed to load libcublas.so.13: no such file", wheels=wheels)
    assert cuda.problem(0) is None
    assert looked == ["/torch/lib", "/user/nvidia/cudnn/lib"], "none is looked into once all are loaded"


def test_wheels_without_the_libraries_are_named(machine) -> None:
    machine(cudnn=False, wheels={"/torch/lib": False})
    said = r"libcudnn.so.9 cannot be loaded, .*; searched NVIDIA's and PyTorch's wheels too: /torch/lib: pip install"
    assert re.search(said, cuda.problem(0) or "")


def test_where_wheels_keep_libraries(tmp_path, monkeypatch) -> None:
    """Wherever on Python's path they are, and without importing PyTorch, which takes seconds."""
    for place in ("user/torch/lib", "site/nvidia/cu13/lib", "user/nvidia/cudnn/lib", "user/nvidia/cudnn/include"):
        (tmp_path / place).mkdir(parents=True)
    (tmp_path / "user/torch/__init__.py").write_text("raise AssertionError('imported')")
    monkeypatch.setattr(sys, "path", [str(tmp_path / "site"), str(tmp_path / "user"), *sys.path])
    monkeypatch.setattr(cuda, "_WINDOWS", False)
    for name in [name for name in sys.modules if name.partition(".")[0] in ("torch", "nvidia")]:
        monkeypatch.delitem(sys.modules, name)
    found = [folder.relative_to(tmp_path).as_posix() for folder in cuda.library_folders()]
    assert found[:3] == ["user/torch/lib", "site/nvidia/cu13/lib", "user/nvidia/cudnn/lib"]
    assert "torch" not in sys.modules


def test_a_real_library_is_loaded_from_a_wheel(tmp_path) -> None:
    """No fake: ONNX Runtime's own search does not find it, and this one does."""
    compiler = shutil.which("cc")
    if compiler is None or not sys.platform.startswith("linux"):
        pytest.skip("no C compiler on Linux, to make a library of cuDNN's name with")
    import onnxruntime

    if not onnxruntime.cuda_version:
        pytest.skip("this ONNX Runtime is built without CUDA, and searches no libraries")
    if not cuda._load_libraries(None):
        pytest.skip("CUDA and cuDNN are installed here")
    library = tmp_path / "nvidia/cudnn/lib/libcudnn.so.9"
    library.parent.mkdir(parents=True)
    command = [compiler, "-shared", "-x", "c", "/dev/null", "-Wl,-soname,libcudnn.so.9", "-o", str(library)]
    subprocess.run(command, check=True)
    code = (
        "from seqport.runtime import cuda\n"
        "first = cuda._load_libraries(None)\n"
        "rest = [cuda._load_libraries(folder) for folder in cuda.library_folders() if 'cudnn' in str(folder)][-1]\n"
        "print('libcudnn.so.9' in first, 'libcudnn.so.9' in rest, 'torch' in __import__('sys').modules)"
    )
    path = ":".join([str(tmp_path), *sys.path])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={"PYTHONPATH": path})
    assert (done.stdout, done.stderr) == ("True False False\n", "")


def test_a_device_beyond_the_last(artifact, machine, monkeypatch) -> None:
    machine(driver=Driver(devices=2))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,4")
    with pytest.raises(ProviderError, match="no device 2: the driver shows 2 of them with CUDA_VISIBLE_DEVICES='3,4'"):
        Session(artifact(), "cuda:2")


def test_two_packages_hide_cuda(artifact, machine) -> None:
    machine(providers=WITH_CUDA[1:], packages=("onnxruntime", "onnxruntime-gpu"))
    said = "onnxruntime 1.31.1 and onnxruntime-gpu 1.31.1 are both installed and overwrite each other's files"
    with pytest.warns(RuntimeWarning, match=said):
        session = Session(artifact(), "auto")
    assert (session.provider, said in session.provider_note) == ("cpu", True)
    with pytest.raises(ProviderError, match=f"{said}: pip uninstall both, then pip install onnxruntime-gpu alone"):
        Session(artifact(), "cuda")


class Fake:
    """What ONNX Runtime would open on a GPU: it runs on the CPU and says otherwise.

    `places` are those of its nodes; a set puts all nodes that it really has on the GPU, but for those of these types.
    """

    def __init__(self, session, asked, options, listed, places) -> None:
        self._session, self.asked, self.options = session, asked, options
        self._listed, self._places = listed, places

    def __getattr__(self, name):
        return getattr(self._session, name)

    def get_providers(self):
        return self._listed

    def get_provider_graph_assignment_info(self):
        if isinstance(self._places, dict):
            return [subgraph(place, node) for node, place in self._places.items()]
        nodes = [node for part in self._session.get_provider_graph_assignment_info() for node in part.get_nodes()]
        return [
            types.SimpleNamespace(ep_name=WITH_CUDA[on_cpu], get_nodes=lambda found=found: found)
            for on_cpu in (0, 1)
            if (found := [node for node in nodes if (node.op_type in self._places) == on_cpu])
        ]


def subgraph(place: str, *nodes: str):
    nodes_ = [types.SimpleNamespace(name=name, op_type="LSTM") for name in nodes]
    nodes_.append(types.SimpleNamespace(name="head", op_type="MatMul"))
    return types.SimpleNamespace(ep_name=place, get_nodes=lambda: nodes_)


class Wrong(Fake):
    """A GPU that gets one number wrong."""

    def run(self, names, feed):
        first, *others = self._session.run(names, feed)
        first[0, 0, 0, 0] = np.nan
        return [first, *others]


@pytest.fixture
def gpu(machine, monkeypatch):
    """A machine whose ONNX Runtime opens CUDA as described, by default well."""
    import onnxruntime

    real = onnxruntime.InferenceSession

    def make(
        *,
        listed=WITH_CUDA,
        places: dict[str, str] | set[str] = ALL_ON_CUDA,
        fault=None,
        on_trial_fault=None,
        wrong=False,
        **of,
    ):
        def open_session(path, options, providers, **kwargs):
            on_gpu, on_trial = providers != ["CPUExecutionProvider"], path == trial.MODEL
            error = on_trial_fault if on_trial else fault
            if on_gpu and error:
                raise error
            session = real(path, options, ["CPUExecutionProvider"], **kwargs)
            if not on_gpu:
                return session
            return (Wrong if wrong and on_trial else Fake)(session, providers, kwargs, listed, places)

        machine(**of)
        monkeypatch.setattr(onnxruntime, "InferenceSession", open_session)

    return make


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
