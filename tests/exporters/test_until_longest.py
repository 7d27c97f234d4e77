"""A loop that runs up to max(lengths) runs up to it in the artifact, not to the padded size nor to the traced one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from support.checks import assert_contract, assert_same, draw, native_nodes, run_file
from support.torch_models import VOCABULARY, Wrapped
from support.torch_until import LOOPS

from seqport.exporters import export
from seqport.runtime import Session

# The longest length by (batch, seq), other sequences' axes as long: one step, less than was traced, more, all.
SHAPES = ((3, 9, 1), (4, 9, 5), (5, 31, 20), (2, 12, 12), (1, 1, 1))
# Which say nothing of a single row's end.
FROM_LENGTHS = [name for name in LOOPS if name != "masked"]


def _model(name: str) -> Wrapped:
    run, _, parts = LOOPS[name]
    torch.manual_seed(0)
    return Wrapped(run, **{key: make() for key, make in parts.items()}).eval()


def _answers(model: Wrapped, arrays: dict[str, np.ndarray]) -> list[np.ndarray]:
    with torch.no_grad():
        result = model(*(torch.from_numpy(array) for array in arrays.values()))
    return [leaf.numpy() for leaf in (result if isinstance(result, tuple) else (result,))]


def _arrays(name: str, batch: int, seq: int, longest: int) -> dict[str, np.ndarray]:
    inputs = LOOPS[name][1]
    arrays = draw(inputs, (batch, seq, seq), vocabulary=VOCABULARY, seed=seq)
    for key, array in arrays.items():
        if key.endswith("lengths"):
            arrays[key] = np.random.default_rng(longest).integers(1, longest + 1, batch).astype(array.dtype)
            arrays[key][-1] = longest
        if key == "mask":
            arrays[key][:, longest:] = False
            arrays[key][-1, :longest] = True
    return arrays


@pytest.mark.parametrize("name", LOOPS)
def test_a_loop_until_the_longest_gives_pytorchs_answers(name: str, tmp_path: Path) -> None:
    model, inputs = _model(name), LOOPS[name][1]
    artifact = export(model, tmp_path / "m.onnx", inputs)
    assert_contract(tmp_path / "m.onnx", inputs)
    assert all(node.input[4] for node in native_nodes(tmp_path / "m.onnx")), "sequence_lens"
    assert all(info.lengths for info in artifact.description.recurrent)
    for shape in SHAPES:
        arrays = _arrays(name, *shape)
        found = list(run_file(tmp_path / "m.onnx", arrays).values())
        assert_same(found, _answers(model, arrays), f"{name} at {shape}")


def test_no_step_at_all_leaves_the_given_state(tmp_path: Path) -> None:
    model, (_, inputs, _) = _model("while"), LOOPS["while"]
    export(model, tmp_path / "m.onnx", inputs)
    arrays = _arrays("while", 3, 4, 1)
    arrays["lengths"][:] = 0
    found = list(run_file(tmp_path / "m.onnx", arrays).values())
    assert_same(found, [arrays["h_0"]], "no step")


def test_the_runtime_knows_the_lengths_and_the_axis_that_is_cut_to_them(tmp_path: Path) -> None:
    model, (_, inputs, _) = _model("item"), LOOPS["item"]
    export(model, tmp_path / "m.onnx", inputs)
    session = Session(tmp_path / "m.onnx", provider="cpu")
    (sequence,) = session.signature.sequences
    assert (sequence.lengths, sequence.axis) == ("lengths", "seq")
    assert session.signature.outputs[0].axes[1] == "max_lengths"
    rows = [np.random.default_rng(n).standard_normal((n, 6)).astype(np.float32) for n in (3, 8, 5)]
    for row, out in zip(rows, session.predict(rows), strict=True):
        alone = {"x": row[None], "lengths": np.array([len(row)])}
        assert_same([out["output_0"]], [_answers(model, alone)[0][0]], f"{len(row)} steps")
