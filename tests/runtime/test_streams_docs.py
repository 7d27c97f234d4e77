"""The page on streams does what it says."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

import seqport

PAGE = Path(seqport.__file__).parents[2] / "docs/streams.md"


def test_the_example_runs(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(blocks) == 4
    names: dict[str, object] = {"__name__": "example"}
    for block in blocks:
        exec(block, names)
    whole, many, restored = capsys.readouterr().out.splitlines()[-3:]
    assert 0 <= float(whole) < 1e-6
    assert many == "(67, 4) ('ann', 'ben', 7)"
    assert float(restored) == 0.0
    assert [np.shape(part) for part in names["parts"]] == [(1, 4), (39, 4), (60, 4)]  # type: ignore[attr-defined]
