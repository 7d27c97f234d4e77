"""Machines with and without CUDA, as `seqport.runtime.cuda` sees them."""

from __future__ import annotations

import ctypes
from pathlib import Path

import pytest

from seqport.runtime import cuda, trial

WITH_CUDA = ["CUDAExecutionProvider", "CPUExecutionProvider"]


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
