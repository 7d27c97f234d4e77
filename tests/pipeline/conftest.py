"""Artifacts of some zoo models, exported once, and the subjects that judge them."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from seqport.pipeline import cli
from seqport.pipeline.build import Built, build_zoo
from seqport.pipeline.judge import Subject

# Among them: a GRU with the reset gate on either side, a bidirectional LSTM of two layers, tokens and features,
# one output a row and one a step, both strategies that generate, and the fixed single step.
MODELS = ("language", "hyphenation", "forecast", "generator", "numbers", "rescale")


@pytest.fixture(scope="session")
def exports(tmp_path_factory: pytest.TempPathFactory) -> list[Built]:
    """The artifacts of `MODELS` from both frameworks."""
    return build_zoo(MODELS, tmp_path_factory.mktemp("build"))


@pytest.fixture(scope="session")
def folder(exports: list[Built]) -> Path:
    """Where they are; not to be written to."""
    return exports[0].path.parent


@pytest.fixture(scope="session")
def subject() -> Callable[[str], Subject]:
    """A model with its batches and references, loaded once."""
    return cache(Subject.load)


@pytest.fixture
def seqport(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> Callable[..., tuple[int, str, str]]:
    """Runs the command; gives its exit code and what it wrote to stdout and stderr."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["seqport", *map(str, arguments)])
        capsys.readouterr()
        try:
            cli.main()
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(bool(end.code))
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def strict_json() -> Callable[[str], dict]:
    """Reads JSON as the standard has it, without NaN and Infinity."""

    def refuse(name: str) -> None:
        raise ValueError(f"{name} is no JSON")

    return lambda text: json.loads(text, parse_constant=refuse)
