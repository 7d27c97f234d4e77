"""The page on lists, generation and threads does what it says."""

from __future__ import annotations

import re
from pathlib import Path

import seqport

PAGE = Path(seqport.__file__).parents[2] / "docs/serving.md"


def test_the_examples_run(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    said: list[list[str]] = []
    names: dict[str, object] = {"__name__": "example"}
    for block in blocks:
        exec(block, names)
        said.append(capsys.readouterr().out.splitlines())
    definitions, lists, endless, wrong, generated, again, encoded, together = said
    assert definitions == []
    assert lists[-2:] == ["500 of 500", "500 True"] and len(lists) > 3
    assert endless == ["40"]
    assert wrong[0].startswith("item 1: sequence 'ids' has 0 steps")
    assert wrong[1] == "2 ['dict', 'InputValueError', 'dict']"
    assert re.fullmatch(r"\[\d+, \d+, \d+\] 5 \[ *\d+ +\d+\]", generated[0])
    assert again == ["True"] and encoded == ["3 True"] and together == ["(500, 2)"]
