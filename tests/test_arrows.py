"""Who may import whom, read from the source of every package."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import seqport

ROOT = Path(seqport.__file__).parents[2]
PACKAGES = ("models", "exporters", "runtime", "pipeline")

# What a package may import of seqport, beside itself and seqport.errors.
ALLOWED = {
    "runtime": (),
    "models": (),
    "exporters": (
        "seqport.runtime.artifact",
        "seqport.runtime.external",
        "seqport.runtime.cudnn",
        "seqport.runtime.rewriting.not_a_number",
        "seqport.runtime.rewriting.reading",
    ),
    "pipeline": ("seqport.models", "seqport.exporters", "seqport.runtime"),
}
# What it may never import, even inside a function: the runtime serves without any of these, and the definition
# of a model needs no file format.
FORBIDDEN = {
    "runtime": {"torch", "tensorflow", "keras", "tf_keras", "tf2onnx", "onnx", "onnx_ir", "onnxscript", "safetensors"},
    "models": {"onnx", "onnx_ir", "onnxruntime", "onnxscript", "tf2onnx"},
    "exporters": set(),
    "pipeline": set(),
}
# Rewriting a graph needs its format. A session imports this package when it rewrites, and does without where it cannot.
REWRITING = "runtime/rewriting/"
_REWRITING_PACKAGE = "seqport.runtime.rewriting"
# The modules that are about a framework, and so import it when they are imported.
FRAMEWORKS = {"torch", "tensorflow", "keras", "tf_keras", "tf2onnx"}
OF_A_FRAMEWORK = (
    "models/pytorch.py",
    "models/reset_before.py",
    "models/keras.py",
    "models/zoo/train.py",
    "exporters/frontends/pytorch/",
    "exporters/frontends/keras/",
    "exporters/frontends/tensorflow/",
    "pipeline/bench/contestants/pytorch.py",
    "pipeline/bench/contestants/cudnn.py",
    "pipeline/bench/contestants/keras.py",
)


def imports(tree: ast.AST) -> Iterator[str]:
    """The full name of everything imported; of `from a import b`, a.b."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            prefix = "." * node.level + (node.module or "")
            yield from (f"{prefix}.{alias.name}" if node.module else prefix + alias.name for alias in node.names)


def on_import(tree: ast.Module) -> Iterator[str]:
    """What is imported as soon as the module is: not inside functions, nor for type checkers."""
    todo: list[ast.AST] = [tree]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from imports(node)
        checking = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        if not checking and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            todo.extend(ast.iter_child_nodes(node))


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def faults(package: str, file: str, source: str) -> list[str]:
    """What a file of a package imports against the arrows."""
    tree = ast.parse(source)
    allowed = (f"seqport.{package}", "seqport.errors", *ALLOWED[package])
    found = []
    for name in imports(tree):
        if name.startswith(".."):
            found.append(f"{file} reaches out of its package with {name}")
        if within(name, "seqport") and not any(within(name, one) for one in allowed):
            found.append(f"{file} imports {name}")
        if name.split(".")[0] in FORBIDDEN[package] - ({"onnx"} if file.startswith(REWRITING) else set()):
            found.append(f"{file} imports {name}")
        if name.split(".")[0] in PACKAGES:
            found.append(f"{file} imports {name}, which is called seqport.{name}")
    if package == "runtime" and not file.startswith(REWRITING):
        found += [f"{file} imports {name} at its top" for name in on_import(tree) if within(name, _REWRITING_PACKAGE)]
    if not file.startswith(OF_A_FRAMEWORK):
        found += [f"{file} imports {name} at its top" for name in on_import(tree) if name.split(".")[0] in FRAMEWORKS]
    return found


@pytest.mark.parametrize("package", PACKAGES)
def test_the_arrows_hold(package):
    files = sorted((ROOT / package).rglob("*.py"))
    assert files
    found = [f for path in files for f in faults(package, path.relative_to(ROOT).as_posix(), path.read_text())]
    assert not found, "\n".join(found)


def test_the_root_imports_nothing():
    assert not list(imports(ast.parse((ROOT / "src/seqport/__init__.py").read_text())))
    assert list(imports(ast.parse((ROOT / "src/seqport/errors.py").read_text()))) == ["__future__.annotations"]


@pytest.mark.parametrize(
    ("package", "source", "said"),
    [
        ("runtime", "import seqport.models", "new.py imports seqport.models"),
        ("runtime", "def f():\n    from torch import nn", "new.py imports torch.nn"),
        ("runtime", "import onnx.helper", "new.py imports onnx.helper"),
        ("runtime", "from seqport.runtime.rewriting import x", "new.py imports seqport.runtime.rewriting.x at its top"),
        (
            "models",
            "from seqport.runtime.artifact import Description",
            "new.py imports seqport.runtime.artifact.Description",
        ),
        ("models", "from seqport import exporters", "new.py imports seqport.exporters"),
        ("exporters", "from seqport.models import Part", "new.py imports seqport.models.Part"),
        ("exporters", "from seqport.runtime import Session", "new.py imports seqport.runtime.Session"),
        ("exporters", "from seqport.pipeline.cli import app", "new.py imports seqport.pipeline.cli.app"),
        ("exporters", "from ..runtime import artifact", "new.py reaches out of its package with ..runtime.artifact"),
        ("pipeline", "import torch", "new.py imports torch at its top"),
        ("pipeline", "if True:\n    import keras", "new.py imports keras at its top"),
        ("pipeline", "from models import Part", "new.py imports models.Part, which is called seqport.models.Part"),
    ],
)
def test_an_arrow_that_is_broken_is_seen(package, source, said):
    assert said in faults(package, "new.py", source)


@pytest.mark.parametrize(
    ("package", "source"),
    [
        ("exporters", "from seqport.runtime.artifact import Description"),
        ("models", "from seqport.errors import SeqportError"),
        ("pipeline", "def f():\n    import torch"),
        ("pipeline", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch"),
        ("runtime", "from seqport.runtime import errors"),
    ],
)
def test_an_arrow_that_holds_is_not_refused(package, source):
    assert faults(package, "new.py", source) == []
