"""Machines with and without CUDA, as `seqport.runtime.cuda` sees them."""

from __future__ import annotations

import ctypes
import types
from pathlib import Path

import numpy as np
import pytest

from seqport.runtime import cuda, trial

WITH_CUDA = ["CUDAExecutionProvider", "CPUExecutionProvider"]
ALL_ON_CUDA = {"recurrent": "CUDAExecutionProvider"}


@pytest.fixture
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


class Pages:
    """A driver whose page-locked memory is the C library's."""

    def __init__(self, fails: str = "") -> None:
        self.fails, self._libc = fails, ctypes.CDLL(None)
        self._libc.malloc.restype = ctypes.c_void_p
        self.held: set[int] = set()
        self.contexts = self.retained = 0

    def _code(self, name: str) -> int:
        return 2 if name == self.fails else 0

    def cuInit(self, _flags) -> int:  # noqa: N802
        return self._code("cuInit")

    def cuDevicePrimaryCtxRetain(self, _context, device) -> int:  # noqa: N802
        assert device == 1
        self.retained += 1
        return 0

    def cuDevicePrimaryCtxRelease_v2(self, _device) -> int:  # noqa: N802
        self.retained -= 1
        return 0

    def cuCtxPushCurrent_v2(self, _context) -> int:  # noqa: N802
        self.contexts += 1
        return 0

    def cuCtxPopCurrent_v2(self, _context) -> int:  # noqa: N802
        self.contexts -= 1
        return 0

    def cuMemHostAlloc(self, address, size, flags) -> int:  # noqa: N802
        assert flags == 1
        if not self._code("cuMemHostAlloc"):
            memory = self._libc.malloc(size)
            ctypes.cast(address, ctypes.POINTER(ctypes.c_void_p))[0] = memory
            self.held.add(memory)
        return self._code("cuMemHostAlloc")

    def cuMemFreeHost(self, address) -> int:  # noqa: N802
        self.held.remove(address.value)
        self._libc.free(address)
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
