"""Every command and every make target says what it does, and is in the documentation."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import typer.main

import seqport
from seqport.pipeline.cli import app

ROOT = Path(seqport.__file__).parents[2]
COMMANDS = sorted(typer.main.get_command(app).commands)  # type: ignore[attr-defined] - a group has them
TARGETS = ("setup", "export", "parity", "test", "bench", "lint", "clean", "help")


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
