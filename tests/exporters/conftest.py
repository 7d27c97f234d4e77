"""A tagger, and its export with any options."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
import torch
from support.torch_models import IDS, LENGTHS, Tagger

from seqport.exporters import Artifact, export


@pytest.fixture
def tagger() -> torch.nn.Module:
    torch.manual_seed(0)
    return Tagger(torch.nn.LSTM, bidirectional=True)


@pytest.fixture
def exported(tagger: torch.nn.Module, tmp_path: Path) -> Callable[..., tuple[Artifact, onnx.ModelProto]]:
    def run(**options: object) -> tuple[Artifact, onnx.ModelProto]:
        artifact = export(tagger, tmp_path / "tagger.onnx", [IDS, LENGTHS], **options)  # type: ignore[arg-type]
        return artifact, onnx.load(artifact.path)

    return run


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests of gigabytes run only where they are asked for."""
    if "large" in (config.getoption("markexpr") or ""):
        return
    skip = pytest.mark.skip(reason="writes gigabytes, for minutes: make test-large")
    for item in items:
        if item.get_closest_marker("large"):
            item.add_marker(skip)
