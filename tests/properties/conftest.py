"""A folder for artifacts that outlives an example."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Hypothesis runs many examples in one test, and its own fixtures are a test's."""
    return tmp_path_factory.mktemp("drawn")
