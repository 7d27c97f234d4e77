"""Says why CUDA cannot be had on this machine, before ONNX Runtime silently takes the CPU.

ONNX Runtime lists CUDA as available wherever its build has it, even with no GPU or no CUDA library,
and then falls back with a warning (onnxruntime#17801, #23372). So the parts are tried one by one,
cheapest first: the package, the driver, the device, the libraries.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib.util
import io
import os
import re
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

CUDA_PROVIDER = "CUDAExecutionProvider"
_NO_DEVICE = 100  # CUDA_ERROR_NO_DEVICE
_WINDOWS = sys.platform == "win32"
_DRIVER = "nvcuda.dll" if _WINDOWS else "libcuda.so.1"
# ONNX Runtime loads cuDNN lazily and does without where it can; its recurrent kernels cannot.
_CUDNN = "cudnn64_9.dll" if _WINDOWS else "libcudnn.so.9"
# What ONNX Runtime loads, each after those that it needs; the names of some end with CUDA's version.
_IN_ORDER = ("cublasLt", "cublas", "nvrtc", "curand", "cufft", "cudart", "cudnn")
_OF_CUDA = ("cublasLt", "cublas", "nvrtc", "cudart")


@functools.cache
def problem(device: int = 0) -> str | None:
    """Why `cuda:<device>` cannot be had, with the remedy; None where it can, as far as can be seen.

    The answer is kept for the process: drivers and libraries do not come and go.
    """
    return _package_problem() or _driver_problem(device) or _library_problem()


def _package_problem() -> str | None:
    import onnxruntime

    if CUDA_PROVIDER in onnxruntime.get_available_providers():
        return None
    both = _second_package()
    if both:  # a fault of the installation, to be said even where the CPU will do
        warnings.warn(both, RuntimeWarning, stacklevel=2)
        return both
    return (
        f"this ONNX Runtime {onnxruntime.__version__} is built without CUDA: "
        "pip uninstall onnxruntime, then pip install onnxruntime-gpu"
    )


def _second_package() -> str | None:
    """Whether onnxruntime and onnxruntime-gpu, which write the same folder, are both installed."""
    found = [(name, _version(name)) for name in ("onnxruntime", "onnxruntime-gpu")]
    if not all(version for _, version in found):
        return None
    return (
        f"{' and '.join(f'{name} {version}' for name, version in found)} are both installed and overwrite "
        "each other's files: pip uninstall both, then pip install onnxruntime-gpu alone"
    )


def _version(package: str) -> str | None:
    from importlib import metadata  # a tenth of the import of onnxruntime itself, and rarely needed

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _driver_problem(device: int) -> str | None:
    try:
        driver = _load(_DRIVER)
    except OSError as error:
        return (
            f"there is no NVIDIA driver ({error}): install it, or hand the GPU to the container (docker run --gpus all)"
        )
    count, version = ctypes.c_int(0), ctypes.c_int(0)
    code = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count))
    if code not in (0, _NO_DEVICE):
        return f"the NVIDIA driver fails with CUDA error {code}: see whether nvidia-smi works"
    if device >= count.value:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        limit = "" if visible is None else f" with CUDA_VISIBLE_DEVICES={visible!r}"
        return f"there is no device {device}: the driver shows {count.value} of them{limit}"
    driver.cuDriverGetVersion(ctypes.byref(version))
    built = _built_for()
    supported = f"{version.value // 1000}.{version.value % 1000 // 10}"
    if int(supported.partition(".")[0]) < int(built.partition(".")[0]):  # minor versions are compatible
        return (
            f"the NVIDIA driver supports CUDA up to {supported}, and this ONNX Runtime is built for "
            f"CUDA {built}: update the driver, or install an ONNX Runtime for its version"
        )
    return None


def _built_for() -> str:
    """The CUDA version of this build; "0" where it does not say."""
    import onnxruntime

    return str(getattr(onnxruntime, "cuda_version", "") or "0")


def _library_problem() -> str | None:
    _load_wheels()
    missing = _load_libraries(None)
    searched = []
    for folder in library_folders() if missing else ():
        searched.append(str(folder))
        missing = _load_libraries(folder)
        if not missing:
            break
    if not missing:
        return None
    where = f"; searched NVIDIA's and PyTorch's wheels too: {', '.join(searched)}" if searched else ""
    return (
        f"{', '.join(missing)} cannot be loaded, and this ONNX Runtime is built for CUDA {_built_for()} with cuDNN 9"
        f"{where}: pip install 'onnxruntime-gpu[cuda,cudnn]', or put the libraries on the loader's path"
    )


def _load_wheels() -> None:
    """Load CUDA and cuDNN from Python's wheels, where these are of the version that ONNX Runtime is built for.

    PyTorch accepts no cuDNN older than its own, and takes the one that the process has already: with an older one from
    the loader's path, it would fail when it is imported later. Of each library the first is taken that loads.
    """
    folders = library_folders()
    major = _built_for().partition(".")[0]
    if _WINDOWS or not any((folder / f"libcublasLt.so.{major}").exists() for folder in folders):
        return
    for library in _IN_ORDER:
        pattern = f"lib{library}.so.{major if library in _OF_CUDA else '*'}"
        for path in (path for folder in folders for path in sorted(folder.glob(pattern))):
            try:
                _load(str(path))
            except OSError:
                continue  # another folder may have it, or the loader's path
            break


def _load_libraries(folder: Path | None) -> list[str]:
    """Load CUDA and cuDNN, and name those that are not to be had.

    Args:
        folder: looked into first; None is NVIDIA's wheels beside ONNX Runtime's own. The loader's path comes last, and
            finds whatever is loaded already.
    """
    import onnxruntime

    said = io.StringIO()  # it prints what it cannot load
    with contextlib.redirect_stdout(said):
        onnxruntime.preload_dlls(directory=None if folder is None else str(folder))
    # A bare name failed on the loader's path too; one with a folder may have been found there.
    missing = re.findall(r"Failed to load ([^\s/\\]+): ", said.getvalue())
    try:
        _load(_CUDNN)
    except OSError:
        missing.append(_CUDNN)
    return list(dict.fromkeys(missing))


def library_folders() -> list[Path]:
    """Where the wheels of PyTorch and NVIDIA keep their libraries, wherever on Python's path they are installed.

    ONNX Runtime itself looks for NVIDIA's wheels beside its own alone, and on Linux not into PyTorch's. Neither package
    is imported here: PyTorch takes seconds.
    """
    folders = [root / "lib" for root in _package_folders("torch")]
    for root in _package_folders("nvidia"):
        # nvidia/cudnn/lib, nvidia/cu13/lib; on Windows nvidia/cudnn/bin, nvidia/cu13/bin/x86_64
        for pattern in ("*/bin", "*/bin/*") if _WINDOWS else ("*/lib",):
            folders += sorted(root.glob(pattern))
    return [folder for folder in folders if folder.is_dir()]


def _package_folders(package: str) -> list[Path]:
    found = importlib.util.find_spec(package)
    return [Path(place) for place in (found.submodule_search_locations or ())] if found is not None else []


def provider_options(device: int) -> dict[str, str]:
    """ONNX Runtime's options for a device.

    TF32 keeps 10 bits of a float32's 23: answers would differ from every other runtime's by 1e-3. The first device is
    not named: ONNX Runtime would look for a plugin of that device, find none, and say so on stderr at each opening.
    """
    options = {"use_tf32": "0"}
    return {"device_id": str(device), **options} if device else options


@contextlib.contextmanager
def primary_context(device: int) -> Iterator[ctypes.CDLL | None]:
    """The driver, with the context current that ONNX Runtime uses on a device; None where the driver refuses."""
    try:
        driver = _load(_DRIVER)
    except OSError:
        driver = None
    context = ctypes.c_void_p()
    if (
        driver is None
        or driver.cuInit(0)
        or driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), device)
        or driver.cuCtxPushCurrent_v2(context)
    ):
        yield None
        return
    try:
        yield driver
    finally:
        driver.cuCtxPopCurrent_v2(ctypes.byref(context))
        driver.cuDevicePrimaryCtxRelease_v2(device)


def _load(library: str) -> ctypes.CDLL:
    return ctypes.CDLL(library)
