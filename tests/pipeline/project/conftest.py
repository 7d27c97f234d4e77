"""A user's project in a folder of its own: a package with a model in two files, its weights, a seqport.toml."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = {
    "__init__.py": "",
    "heads.py": "from torch import nn\n\n\ndef head(width):\n    return nn.Linear(width, 3)\n",
    "tagging.py": """
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from .heads import head

NUMBER = 7


class Tagger(nn.Module):
    def __init__(self, hidden=4):
        super().__init__()
        self.lstm = nn.LSTM(2, hidden, batch_first=True)
        self.head = head(hidden)

    def forward(self, x, lengths):
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        return self.head(pad_packed_sequence(self.lstm(packed)[0], batch_first=True, total_length=x.size(1))[0])


def build(hidden=4, fail=False):
    if fail:
        raise RuntimeError("no such corpus")
    torch.manual_seed(0)
    return Tagger(hidden)


def nothing():
    return NUMBER


model = build()
""",
}
PROJECT = """
[models.tagger]
source = "shop.tagging:build"
arguments = { hidden = 3 }
inputs = ["x[batch,seq,2]", "lengths:int64[batch]"]
outputs = ["logits"]

[models.other]
source = "shop.tagging:model"
inputs = ["x[batch,seq,2]", "lengths:int64[batch]"]
file = "named.onnx"
"""


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The project's folder, which is the working folder too."""
    package = tmp_path / "shop"
    package.mkdir()
    for name, text in PACKAGE.items():
        (package / name).write_text(text)
    (tmp_path / "seqport.toml").write_text(PROJECT)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    forget()


def forget() -> None:
    """Forget the imported package, as a new process would not know it."""
    for name in [name for name in sys.modules if name.partition(".")[0] in ("shop", "alone")]:
        del sys.modules[name]
