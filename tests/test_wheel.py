"""The wheel in a bare environment, beside an application that has a `models` package of its own."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from importlib.metadata import requires
from pathlib import Path

import pytest
import torch

from seqport.exporters import Input, export

ROOT = Path(__file__).parent.parent
# What `pip install seqport[cpu]` would bring; everything else of the developer's environment stays out of reach.
NEEDED = ("numpy", "numpy.libs", "onnxruntime")

APPLICATION = """
import importlib.util, sys
import models
assert models.OWN, "the application's own package was shadowed"
from seqport.runtime import Session
import numpy as np
session = Session(sys.argv[1], provider="cpu")
rows = [np.ones((n, 3), np.float32) for n in (4, 1, 2)]
print([out["output_0"].shape for out in session.predict(rows)])
for name in ("torch", "tensorflow", "onnx", "onnx_ir"):
    assert importlib.util.find_spec(name) is None, name
print(sorted(n for n in sys.modules if n.partition(".")[0] == "seqport" and n.count(".") == 1))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy of the tracked files, so that nothing is left behind in the tree."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("models", "exporters", "runtime", "pipeline", "src"):
        shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", target, source]
    subprocess.run(command, check=True)
    (found,) = target.glob("*.whl")
    return found


def test_the_wheel_has_one_name_and_everything_below_it(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.partition("/")[0] for name in names if ".dist-info" not in name} == {"seqport"}
    for package in ("models", "exporters", "runtime", "pipeline"):
        tracked = {f"seqport/{path.relative_to(ROOT)}" for path in (ROOT / package).rglob("*.py")}
        assert tracked <= set(names)
    assert any(name.startswith("seqport/runtime/kernels/_operators.") for name in names), "the operators in C"
    assert "seqport/py.typed" in names
    assert "seqport/models/zoo/weights/language.safetensors" in names


def test_an_application_embeds_the_runtime(wheel: Path, tmp_path: Path) -> None:
    model = torch.nn.GRU(3, 4, batch_first=True)
    artifact = export(model, tmp_path / "gru.onnx", [Input("x", ("batch", "seq", 3))])
    environment, application = tmp_path / "environment", tmp_path / "application"
    venv.create(environment, with_pip=False)
    site = environment / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    zipfile.ZipFile(wheel).extractall(site)
    installed = Path(sysconfig.get_path("purelib"))
    for name in NEEDED:
        if (installed / name).exists():
            (site / name).symlink_to(installed / name)
    (application / "models").mkdir(parents=True)
    (application / "models" / "__init__.py").write_text("OWN = True\n")
    (application / "main.py").write_text(APPLICATION)
    command = [environment / "bin" / "python", application / "main.py", artifact.path]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    shapes, modules = result.stdout.splitlines()
    assert shapes == "[(4, 4), (1, 4), (2, 4)]"
    assert modules == "['seqport.errors', 'seqport.runtime']"


def test_the_runtime_alone_asks_for_numpy_only() -> None:
    plain = [line for line in requires("seqport") or [] if "extra ==" not in line]
    assert [line.partition(">")[0] for line in plain] == ["numpy"]
