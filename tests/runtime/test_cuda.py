"""Why CUDA cannot be had on a machine, each cause with its remedy."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys

import pytest

from seqport.runtime import ProviderError, Session, cuda

from .machines import WITH_CUDA, Driver

pytestmark = pytest.mark.usefixtures("forget")


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


@pytest.mark.parametrize(("built", "loaded"), [("13.0", True), ("11.8", False)])
def test_wheels_of_the_right_version_come_before_the_loaders_path(
    tmp_path, machine, monkeypatch, built, loaded
) -> None:
    """A process has one cuDNN, and PyTorch accepts none older than its own."""
    machine(built=built)
    monkeypatch.setattr(cuda, "_WINDOWS", False)
    holds = {
        "torch": ["libtorch_cuda.so", "libcudnn_ops.so.9"],
        "cu12": ["libcublasLt.so.12", "libcublas.so.12", "libcudart.so.12"],
        "broken": ["libcublas.so.13"],
        "cu13": ["libcublasLt.so.13", "libcublas.so.13", "libcudart.so.13", "libnvrtc-builtins.so.13"],
        "cudnn": ["libcudnn.so.9"],
        "another": ["libcudnn.so.9", "libcurand.so.10"],
    }
    for folder, names in holds.items():
        (tmp_path / folder).mkdir()
        for name in names:
            (tmp_path / folder / name).touch()
    monkeypatch.setattr(cuda, "library_folders", lambda: [tmp_path / folder for folder in holds])
    real, asked = cuda._load, []

    def load(name: str):
        asked.append(name.removeprefix(f"{tmp_path}/"))
        if "broken" in name:
            raise OSError("file too short")
        return real(name)

    monkeypatch.setattr(cuda, "_load", load)
    assert cuda.problem(0) is None
    wheels = [
        *("cu13/libcublasLt.so.13", "broken/libcublas.so.13", "cu13/libcublas.so.13"),
        *("another/libcurand.so.10", "cu13/libcudart.so.13", "cudnn/libcudnn.so.9"),
    ]
    assert [name for name in asked if "/" in name] == (wheels if loaded else [])
    assert asked[-1] == "libcudnn.so.9", "it is looked for afterwards, wherever it is"


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
