"""Every command and every make target says what it does, and is in the documentation."""

from __future__ import annotations

import importlib
import pkgutil
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer.main

import seqport
from seqport.errors import SeqportError
from seqport.pipeline.cli import app

ROOT = Path(seqport.__file__).parents[2]
COMMANDS = sorted(typer.main.get_command(app).commands)  # type: ignore[attr-defined] - a group has them
TARGETS = (
    "setup",
    "export",
    "parity",
    "test",
    "test-large",
    "test-memory",
    "test-properties",
    "bench",
    "hunt",
    "bench-quick",
    "bench-zoo",
    "gpu",
    "coverage",
    "lint",
    "clean",
    "help",
)


@pytest.fixture(scope="module")
def pages() -> str:
    paths = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    return "\n".join(path.read_text() for path in paths if path.is_file())


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_in_the_documentation(name, pages):
    assert re.search(rf"\bseqport ([a-z]+\|)*{name}\b", pages)


@pytest.mark.parametrize("name", TARGETS)
def test_every_make_target_is_in_the_documentation(name, pages):
    assert re.search(rf"\bmake ([a-z]+ )*{name}\b", pages)


def test_make_help_lists_every_target():
    said = subprocess.run(["make", "-s", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    listed = dict(line.split(maxsplit=1) for line in said.splitlines())
    assert set(listed) == set(TARGETS) and all(listed.values())


def test_ci_calls_the_targets_that_a_developer_does():
    path = ROOT / ".ci/run"
    assert path.stat().st_mode & 0o111
    assert re.findall(r"^make (.*)$", path.read_text(), re.MULTILINE) == ["lint test", "parity"]


def _in_code(kind: type) -> Iterator[tuple[str, str]]:
    """Every error below one, with the one that it derives from."""
    for below in kind.__subclasses__():
        yield below.__name__, kind.__name__
        yield from _in_code(below)


def _drawn(text: str) -> Iterator[tuple[str, str]]:
    """The same of a drawn tree."""
    above: list[str] = []
    for branches, name in re.findall(r"^([│├└─ ]*)(\w+Error)\b", text, re.MULTILINE):
        depth = len(branches) // 4
        del above[depth:]
        if above:
            yield name, above[-1]
        above.append(name)


def test_the_documented_tree_of_errors_is_the_one_in_the_code():
    for room in ("models", "models.zoo", "exporters", "exporters.lift", "runtime", "pipeline"):
        package = importlib.import_module(f"seqport.{room}")
        for module in pkgutil.iter_modules(package.__path__):
            if module.name in ("errors", "task"):
                importlib.import_module(f"{package.__name__}.{module.name}")
    drawn = list(_drawn((ROOT / "docs/errors.md").read_text().split("```")[1]))
    assert len(drawn) > 15 and sorted(drawn) == sorted(_in_code(SeqportError))
