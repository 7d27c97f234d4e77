"""Export one model of a framework twice, and print each file's hash: python same_bytes.py FRAMEWORK FOLDER."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

from seqport.exporters import Input, export

IDS = Input("ids", ("batch", "seq"), "int64")
LENGTHS = Input("lengths", ("batch",), "int64")
WAYS: dict[str, dict[str, Any]] = {
    "plain": {},
    "beside": {"external_data": True, "precision": "float16"},
    "newest": {"opset": 22, "precision": "int8-weights"},
}


def torch_model() -> tuple[Any, list[Input]]:
    import torch
    from torch import nn

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(20, 16)
            self.recurrent = nn.LSTM(16, 24, num_layers=2, bidirectional=True, batch_first=True)
            self.heads = nn.ModuleDict({name: nn.Linear(48, 5) for name in ("first", "second", "third")})

        def forward(self, ids: torch.Tensor, lengths: torch.Tensor) -> dict[str, torch.Tensor]:
            packed = nn.utils.rnn.pack_padded_sequence(
                self.embedding(ids), lengths, batch_first=True, enforce_sorted=False
            )
            y = nn.utils.rnn.pad_packed_sequence(self.recurrent(packed)[0], batch_first=True, total_length=ids.size(1))
            return {name: head(y[0]) for name, head in self.heads.items()}

    torch.manual_seed(0)
    return Model().eval(), [IDS, LENGTHS]


def keras_model() -> tuple[Any, list[Input]]:
    import keras

    keras.backend.clear_session()  # Keras numbers its layers by a counter of the process, and the names are the user's
    keras.utils.set_random_seed(0)
    ids = keras.Input((None,), dtype="int64", name="ids")
    x = keras.layers.Embedding(20, 16, mask_zero=True)(ids)
    for _ in range(2):
        x = keras.layers.Bidirectional(keras.layers.GRU(24, return_sequences=True))(x)
    heads = {name: keras.layers.Dense(5, activation="relu")(x) for name in ("first", "second", "third")}
    return keras.Model(ids, heads), [IDS]


def hashes(framework: str, folder: Path) -> dict[str, str]:
    """File → hash, after one export of each way."""
    for way, options in WAYS.items():
        model, inputs = torch_model() if framework == "pytorch" else keras_model()
        export(model, folder / f"{way}.onnx", inputs, **options)
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


if __name__ == "__main__":
    first, second = (hashes(sys.argv[1], Path(sys.argv[2])) for _ in range(2))
    print(json.dumps({"first": first, "second": second}))
