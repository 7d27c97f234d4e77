"""Export a model with more than 2 GB of weights and run it; a process of its own, whose peak memory is its own.

Usage: python large_model.py FOLDER ROWS WAY. Prints one JSON line: files and their bytes, the largest difference to
PyTorch, and the peak memory in bytes.
"""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from seqport.exporters import Input, export
from seqport.exporters.examine import examine
from seqport.exporters.lift import lift
from seqport.runtime import Session

FEATURES = 300
WAYS: dict[str, dict[str, Any]] = {"plain": {}, "converted": {"opset": 22}, "float16": {"precision": "float16"}}


class Model(nn.Module):
    """A large table before a small network."""

    def __init__(self, rows: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(rows, FEATURES)
        self.recurrent = nn.LSTM(FEATURES, 64, batch_first=True)
        self.head = nn.Linear(64, 3)

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(self.embedding(ids), lengths, batch_first=True, enforce_sorted=False)
        return self.head(pad_packed_sequence(self.recurrent(packed)[0], batch_first=True, total_length=ids.size(1))[0])


def main(folder: Path, rows: int, way: str) -> dict[str, Any]:
    """Export, lift, check and run."""
    torch.manual_seed(0)
    model, path = Model(rows).eval(), folder / "m.onnx"
    inputs = [Input("ids", ("batch", "seq"), "int64"), Input("lengths", ("batch",), "int64")]
    export(model, path, inputs, ["logits"], **WAYS[way])
    lift(path, path)  # nothing to lift, but everything to read and to write
    assert not examine(path).breaks
    ids, lengths = np.array([[rows - 1, 5, 0], [3, rows // 2, 1]]), np.array([3, 2])
    found = Session(path, provider="cpu").run({"ids": ids, "lengths": lengths})["logits"]
    with torch.no_grad():
        expected = model(torch.from_numpy(ids), torch.from_numpy(lengths)).numpy()
    return {
        "files": {file.name: file.stat().st_size for file in sorted(folder.iterdir())},
        "difference": float(np.abs(found - expected).max()),
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3])))
