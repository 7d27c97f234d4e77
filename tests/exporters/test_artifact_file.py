"""What lands on disk: opset, determinism, metadata, and nothing at all where the export failed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from support.checks import assert_same, draw, run_file
from support.torch_models import IDS, LENGTHS, VOCABULARY, Tagger
from torch.nn.utils.rnn import pack_padded_sequence

from seqport.exporters import ExportError, Input, InputsError, export
from seqport.runtime import Session, read_description

Exported = Callable[..., tuple[Any, onnx.ModelProto]]


@pytest.mark.parametrize("opset", range(17, 23))
@pytest.mark.parametrize("options", [{}, {"total": False, "padding_value": -1.0}], ids=["padded", "cut"])
def test_every_opset_gives_the_same_answers(opset: int, options: dict[str, Any], tmp_path: Path) -> None:
    class Halves(Tagger):
        """A Split and reductions, whose form changed with opset 18."""

        def forward(self, ids: torch.Tensor, lengths: torch.Tensor) -> Any:
            y, h_T = super().forward(ids, lengths)
            first, second = (y - y.mean(-1, keepdim=True)).repeat(1, 1, 2).chunk(2, dim=-1)
            return first * second.amax(dim=-1, keepdim=True), h_T

    torch.manual_seed(0)
    model = Halves(torch.nn.GRU, num_layers=2, **options).eval()
    path = tmp_path / "model.onnx"
    export(model, path, [IDS, LENGTHS], opset=opset)
    file = onnx.load(path)
    assert {entry.domain: entry.version for entry in file.opset_import} == {"": opset}
    onnx.checker.check_model(file, full_check=True)
    arrays = draw([IDS, LENGTHS], (5, 8), vocabulary=VOCABULARY)
    with torch.no_grad():
        y, h_T = model(*(torch.from_numpy(a) for a in arrays.values()))
    assert_same(list(run_file(path, arrays).values()), [y.numpy(), h_T.numpy()], f"opset {opset}")


def test_lengths_reach_sequence_lens_as_int32(exported: Exported) -> None:
    artifact, file = exported()
    (node,) = (n for n in file.graph.node if n.op_type == "LSTM")
    (cast,) = (n for n in file.graph.node if n.output[0] == node.input[4])
    assert cast.op_type == "Cast"
    assert cast.input[0] == "lengths"
    assert cast.attribute[0].i == onnx.TensorProto.INT32
    assert artifact.description.recurrent[0].lengths == "lengths"


def test_the_same_model_exports_to_the_same_bytes(exported: Exported) -> None:
    first = exported()[0].path.read_bytes()
    assert exported()[0].path.read_bytes() == first


def test_other_weights_export_to_other_bytes(exported: Exported, tagger: torch.nn.Module) -> None:
    first = exported()[0]
    with torch.no_grad():
        tagger.head.bias += 1  # type: ignore[operator, union-attr]
    assert exported()[0].description.weights_sha256 != first.description.weights_sha256


def test_metadata_says_what_the_artifact_is(exported: Exported) -> None:
    artifact, _ = exported(outputs=["logits", "h_T", "c_T"])
    found = read_description(artifact.path)
    assert found == artifact.description
    assert [t.name for t in found.outputs] == ["logits", "h_T", "c_T"]
    assert found.outputs[0].axes == ("batch", "seq", 3)
    assert found.outputs[1].axes == (2, "batch", 5)
    (sequence,) = found.sequences
    assert (sequence.axis, sequence.batch_axis, sequence.lengths) == ("seq", "batch", "lengths")
    assert sequence.inputs == {"ids": 1}
    assert sequence.outputs == {"logits": 1}
    assert found.recurrent[0].layer == "recurrent"
    assert found.recurrent[0].direction == "bidirectional"
    assert found.source["torch"] == torch.__version__


def test_states_that_go_in_and_out_are_paired(tmp_path: Path) -> None:
    from support.torch_rows import rows

    row = next(row for row in rows() if row.name == "given-states")
    description = export(row.make(), tmp_path / "m.onnx", row.inputs).description
    assert {(s.input, s.output) for s in description.states} == {("h_0", "h_T"), ("c_0", "c_T")}


def test_an_output_cut_to_the_longest_row_has_an_axis_of_its_own(tmp_path: Path) -> None:
    artifact = export(Tagger(torch.nn.GRU, total=False), tmp_path / "m.onnx", [IDS, LENGTHS])
    assert artifact.description.outputs[0].axes == ("batch", "max_lengths", 3)
    session = Session(artifact.path, provider="cpu")
    rows = [np.array([1, 2, 3]), np.array([4]), np.array([5, 6])]
    assert [out["output_0"].shape for out in session.predict(rows)] == [(3, 3), (1, 3), (2, 3)]


def test_training_mode_and_layers_are_left_as_they_were(exported: Exported, tagger: torch.nn.Module) -> None:
    forward, pack = torch.nn.LSTM.forward, torch.nn.utils.rnn.pack_padded_sequence.__code__
    tagger.train()
    tagger.head.eval()  # type: ignore[union-attr]
    exported()
    assert tagger.training
    assert not tagger.head.training  # type: ignore[union-attr]
    assert torch.nn.LSTM.forward is forward
    assert torch.nn.utils.rnn.pack_padded_sequence.__code__ is pack
    assert "forward" not in vars(tagger)


def test_a_failed_export_leaves_an_existing_file_alone(tagger: torch.nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "tagger.onnx"
    path.write_bytes(b"before")
    with pytest.raises(InputsError, match="outputs names 1 outputs"):
        export(tagger, path, [IDS, LENGTHS], outputs=["logits"])
    assert path.read_bytes() == b"before"
    assert [p.name for p in tmp_path.iterdir()] == ["tagger.onnx"]


def test_a_half_precision_model_is_computed_in_float32(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Tagger(torch.nn.LSTM).half()
    artifact = export(model, tmp_path / "m.onnx", [IDS, LENGTHS])
    assert artifact.description.notes == ("recurrent: computed in float32; its weights are float16",)
    assert next(model.parameters()).dtype == torch.float16
    arrays = draw([IDS, LENGTHS], (3, 6), vocabulary=VOCABULARY)
    with torch.no_grad():
        expected = model.float()(*(torch.from_numpy(a) for a in arrays.values()))[0]
    assert_same(list(run_file(artifact.path, arrays).values())[:1], [expected.numpy()], "in float32")
    with pytest.raises(InputsError, match=r"'x' is declared float16, .* declare float32"):
        export(torch.nn.GRU(6, 5).half(), tmp_path / "n.onnx", [Input("x", ("seq", "batch", 6), "float16")])


def test_values_that_explode_over_many_steps_are_no_evidence(tmp_path: Path) -> None:
    model = torch.nn.RNN(6, 5, nonlinearity="relu", batch_first=True)
    with torch.no_grad():
        model.weight_hh_l0.copy_(1.6 * torch.eye(5))  # overflows float32 within two hundred steps  # type: ignore[operator]
    export(model, tmp_path / "m.onnx", [Input("x", ("batch", "seq", 6))])


def test_a_folder_is_no_file(tagger: torch.nn.Module, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="is a folder: expected the path of the file to write"):
        export(tagger, tmp_path, [IDS, LENGTHS])


def test_outputs_that_are_one_value_are_two_outputs(tmp_path: Path) -> None:
    class Twice(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gru = torch.nn.GRU(6, 5, batch_first=True)

        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
            h = self.gru(x)[1]
            return {"x": x, "one": h, "other": h}

    artifact = export(Twice(), tmp_path / "m.onnx", [Input("x", ("batch", "seq", 6))])
    assert [t.name for t in artifact.description.outputs] == ["x_out", "one", "other"]


def test_two_threads_and_a_third_that_only_computes(tmp_path: Path) -> None:
    torch.manual_seed(0)
    other, lengths = Tagger(torch.nn.GRU).eval(), torch.tensor([3, 1])
    ids = torch.tensor([[1, 2, 3], [4, 0, 0]])
    with torch.no_grad():
        expected = other(ids, lengths)[0]
    stop, failures = threading.Event(), []

    def compute() -> None:
        with torch.no_grad():
            while not stop.is_set():
                if not torch.equal(other(ids, lengths)[0], expected):
                    failures.append("other answers while an export runs")

    def run(index: int) -> None:
        try:
            export(Tagger(torch.nn.LSTM), tmp_path / f"{index}.onnx", [IDS, LENGTHS])
        except Exception as error:
            failures.append(repr(error))

    threads = [threading.Thread(target=run, args=(i,)) for i in range(2)] + [threading.Thread(target=compute)]
    for thread in threads:
        thread.start()
    for thread in threads[:2]:
        thread.join()
    stop.set()
    threads[2].join()
    assert not failures
    assert len(list(tmp_path.iterdir())) == 2


def test_rows_of_other_lengths_share_a_batch_only_where_that_was_proven(tmp_path: Path) -> None:
    class Unmasked(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gru = torch.nn.GRU(6, 5, batch_first=True)
            self.plain = torch.nn.GRU(6, 5, batch_first=True)

        def forward(self, x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
            packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
            return self.gru(packed)[1][0] + self.plain(x)[1][0]  # the second reads the padding

    artifact = export(Unmasked(), tmp_path / "m.onnx", [Input("x", ("batch", "seq", 6)), LENGTHS])
    assert [sequence.padded for sequence in artifact.description.sequences] == [False]
    session = Session(artifact.path, provider="cpu")
    random = np.random.default_rng(0)
    rows = [random.standard_normal((n, 6)).astype(np.float32) for n in (5, 2, 5, 1)]
    for row, found in zip(rows, session.predict(rows), strict=True):
        alone = session.run({"x": row[None], "lengths": np.array([len(row)])})
        assert_same([found["output"]], [alone["output"][0]], f"{len(row)} steps")


def test_a_missing_folder_is_named(tagger: torch.nn.Module, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"the folder .*nowhere does not exist: create it"):
        export(tagger, tmp_path / "nowhere" / "m.onnx", [IDS, LENGTHS])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"opset": 16}, "opset is 16: expected one of 17, 18, 19, 20, 21, 22"),
        ({"outputs": "logits"}, r"outputs is the string 'logits': expected a list of names, as \['logits'\]"),
        ({"outputs": ["a", "a", "b"]}, "repeat the name 'a'"),
        ({"outputs": ["ids", "a", "b"]}, "inputs and outputs repeat the name 'ids'"),
        (
            {"example": {"idz": np.zeros((1, 2))}},
            "example holds 'idz', which is no input: expected some of ids, lengths",
        ),
        ({"example": {"ids": np.zeros(3)}}, r"example\['ids'\] has shape \(3,\): expected the axes \('batch', 'seq'\)"),
        ({"inputs": []}, "inputs is empty"),
        ({"inputs": ["ids"]}, "inputs holds 'ids': expected Input"),
        ({"inputs": [IDS, IDS]}, "inputs repeat the name 'ids'"),
        ({"inputs": None}, "inputs is missing, and Tagger does not say what it takes"),
        ({"inputs": [IDS]}, r"forward does not take the declared inputs \(ids\)"),
    ],
)
def test_wrong_arguments_are_named(
    tagger: torch.nn.Module, arguments: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputsError, match=message):
        export(tagger, tmp_path / "m.onnx", **{"inputs": [IDS, LENGTHS], **arguments})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("", ("batch",)), "an input's name is ''"),
        (("x", ("batch", 0)), "input 'x' has the axis 0: expected a name .* or a positive int"),
        (("x", ("batch", 1.5)), "input 'x' has the axis 1.5"),
        (("x", ("batch",), "float"), "input 'x' has dtype 'float': expected one of float32"),
    ],
)
def test_a_wrong_input_is_named(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(InputsError, match=message):
        Input(*arguments)


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ExportError, match=r"cannot export builtins\.int: expected a torch\.nn\.Module, a Keras or tf_keras model"
    ):
        export(3, tmp_path / "m.onnx", [IDS])
