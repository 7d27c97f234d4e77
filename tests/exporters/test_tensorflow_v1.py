"""TF 1 graphs in every form that they are kept in: native nodes, TensorFlow's own answers, or the reason."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

RNN, GRU, LSTM = (
    ["RNN", "forward", "lengths"],
    ["GRU", "forward", "lengths"],
    ["LSTM", "forward", "lengths"],
)
CASES = {
    "flat/v1/pb": [LSTM],
    "flat/v2/saved": [LSTM],
    "flat_stack/v2/pb": [LSTM, LSTM],
    "projected/v1/saved": [LSTM],
    "projected/v2/pb": [LSTM],
    "residual/v1/pb": [GRU, LSTM],
    "residual/v2/saved": [GRU, LSTM],
    "bidirectional_time_major/v1/saved": [GRU, ["LSTM", "reverse", "lengths"]],
    "bidirectional_time_major/v2/pb": [GRU, ["LSTM", "reverse", "lengths"]],
    "dropout/v1/pb": [LSTM],
    "dropout/v2/saved": [LSTM],
    "static_lstm/v1/pb": [["LSTM", "forward", None]],
    "static_stack/v1/saved": [["GRU", "forward", None], ["LSTM", "forward", None]],
    "hand_written/v2/pb": [RNN],
    "hand_written/v1/saved": [RNN],
    "doubles/v1/pb": [GRU],
}
REFUSED = {
    "clipped/v1/saved": "rnn/lstm_cell: is a Scan that stayed: .* it clips its state, which no recurrent operator",
    "static_lengths/v1/pb": "has unrolled steps that stayed: its 6 steps stand in branches on the lengths",
}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    names = [*CASES, *REFUSED]
    script = str(Path(__file__).parent / "tensorflow_v1_graphs.py")
    command = [sys.executable, script, str(tmp_path_factory.mktemp("v1")), *names]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith(("[", '"'))]
    return dict(zip(names, lines, strict=True))


@pytest.mark.parametrize("name", CASES)
def test_exported_graph_gives_tensorflows_answers(name: str, found: dict[str, object]) -> None:
    expected = [
        [op, direction, "lengths:0" if lengths and name.endswith("pb") else lengths]
        for op, direction, lengths in CASES[name]
    ]
    assert found[name] == expected


@pytest.mark.parametrize("name", REFUSED)
def test_refusal_names_layer_and_cause(name: str, found: dict[str, object]) -> None:
    assert re.search(REFUSED[name], str(found[name])), found[name]
