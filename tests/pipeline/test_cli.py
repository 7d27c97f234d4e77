"""The command: help for everything, one clear line for every error, and exit codes."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import onnx
import pytest
import typer.main

from seqport.models import Weights, zoo
from seqport.pipeline.cli import app

COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined] - a group has them
BENCHES = COMMANDS["bench"].commands


def test_the_commands():
    assert set(COMMANDS) == {
        "train",
        "export",
        "build",
        "parity",
        "bench",
        "inspect",
        "check",
        "lift",
        "optimize",
        "run",
    }


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_option_and_argument_has_help(name, seqport):
    code, out, _ = seqport(name, "--help")
    assert code == 0 and COMMANDS[name].help
    for parameter in COMMANDS[name].params:
        assert parameter.help, parameter.name
    assert COMMANDS[name].help.split("\n")[0].rstrip(".")[:40] in out


@pytest.mark.parametrize("name", BENCHES)
def test_every_benchmark_has_help(name, seqport):
    code, _, _ = seqport("bench", name, "--help")
    assert code == 0 and BENCHES[name].help and all(parameter.help for parameter in BENCHES[name].params)


def test_help_imports_no_framework():
    code = (
        "import sys; sys.argv = ['seqport', '--help']\n"
        "from seqport.pipeline.cli import main\n"
        "try: main()\n"
        "except SystemExit: print(*sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "Usage: seqport" in said
    assert not {"torch", "tensorflow", "keras", "onnx", "onnxruntime", "numpy"} & set(said.split())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["frob"], "No such command 'frob'"),
        (["parity", "--frob"], "No such option: --frob"),
        (["inspect"], "Missing argument 'FILE'"),
        (["run", "x.onnx"], "Missing option '--input'"),
        (["train"], "Missing argument 'NAME'"),
    ],
)
def test_wrong_usage_ends_with_2(arguments, said, seqport):
    code, out, err = seqport(*arguments)
    assert code == 2 and said in err and out == ""


@pytest.mark.parametrize("command", ["train", "export", "parity", "bench zoo"])
def test_an_unknown_model_is_one_line_and_ends_with_1(command, seqport):
    code, out, err = seqport(*command.split(), "lanugage")
    assert (code, out) == (1, "")
    assert err.startswith("seqport: the zoo has no task 'lanugage'; it has language,") and err.count("\n") == 1


def test_inspect_says_what_the_file_says(seqport, folder, strict_json):
    path = folder / "numbers.decoder.keras.onnx"
    code, out, _ = seqport("inspect", path)
    assert code == 0
    for line in (
        f"{path}: from keras, opset 18, ",
        "  ids  int64 [batch, seq]",
        "  h_0  float32 [1, batch, 96]",
        "  output  float32 [batch, seq, 13]",
        "rows along batch, steps along seq",
        "  ids, output along seq, counted by lengths, padded with 0",
        "  c_T goes back in as c_0",
        "  recurrent_0  LSTM forward, 96 units, lengths from lengths, hold at padded steps",
        "padding convention  keras",
        "weights' sha256     ",
    ):
        assert line in out
    code, out, _ = seqport("inspect", path, "--json", "-")
    assert code == 0 and strict_json(out)["description"]["states"][0] == {"input": "h_0", "output": "h_T"}


def test_inspect_explains_a_bad_file(seqport, tmp_path):
    (tmp_path / "text.onnx").write_text("not onnx")
    for name, said in {
        "none.onnx": "none.onnx does not exist",
        "text.onnx": "text.onnx (8 bytes) is no ONNX model",
    }.items():
        code, out, err = seqport("inspect", tmp_path / name)
        assert (code, out) == (1, "") and err.startswith("seqport: ") and said in err and err.count("\n") == 1


def test_inspect_and_check_take_any_onnx_file(seqport, folder, tmp_path):
    plain = onnx.load(folder / "rescale.keras.onnx")
    del plain.metadata_props[:]
    path = tmp_path / "plain.onnx"
    onnx.save(plain, path)
    code, out, _ = seqport("inspect", path)
    assert code == 0 and "from an unknown exporter" in out and "RNN forward, 32 units" in out
    assert seqport("check", path)[0] == 0
    for value in plain.graph.input:
        for dim in value.type.tensor_type.shape.dim:
            dim.dim_value = dim.dim_value or 1
    onnx.save(plain, path)
    code, out, _ = seqport("check", path)
    assert code == 1 and "the inputs: have no dynamic axis" in out


def test_lift_says_what_it_did(seqport, folder, tmp_path):
    code, out, _ = seqport("lift", folder / "rescale.keras.onnx", tmp_path / "out.onnx")
    assert code == 0 and out.strip() == "no loop found"
    assert onnx.load(tmp_path / "out.onnx").graph.node


def test_run_prints_and_writes_the_outputs(seqport, folder, tmp_path):
    np.save(tmp_path / "x.npy", np.array([[[0.5]], [[0.2]]], np.float32))
    np.save(tmp_path / "lengths.npy", np.array([1, 1]))
    inputs = [f"--input={name}={tmp_path / name}.npy" for name in ("x", "lengths")]
    code, out, _ = seqport("run", folder / "rescale.pytorch.onnx", *inputs, "--output", tmp_path / "out.npz")
    assert code == 0 and "output float32 [2, 1] on cpu" in out
    assert np.load(tmp_path / "out.npz")["h_T"].shape == (1, 2, 32)


def test_run_explains_bad_inputs(seqport, folder, tmp_path):
    path, text = folder / "rescale.pytorch.onnx", tmp_path / "text.npy"
    text.write_text("no array")
    assert seqport("run", path, "--input", "x")[0] == 2
    for value, said in {
        f"x={text}": "text.npy cannot be read as a .npy file",
        "x=none.npy": "none.npy cannot be read",
    }.items():
        code, _, err = seqport("run", path, "--input", value)
        assert code == 1 and said in err
    np.save(tmp_path / "x.npy", np.zeros((1, 1, 1), np.float32))
    code, _, err = seqport("run", path, "--input", f"x={tmp_path / 'x.npy'}")
    assert code == 1 and err.startswith("seqport: input 'lengths' missing")


def test_export_prints_each_artifact_and_its_time(seqport, tmp_path):
    code, out, err = seqport("export", "rescale", "--framework", "pytorch", "--folder", tmp_path / "new")
    assert code == 0 and (tmp_path / "new" / "rescale.pytorch.onnx").is_file()
    assert out.splitlines()[0] == "exports" and "rescale.pytorch.onnx" in out.splitlines()[2]
    assert err == "export 1/1: exported rescale.pytorch.onnx\n"
    code, _, err = seqport("export", "rescale", "--framework", "jax", "--folder", tmp_path)
    assert code == 1 and "there is no framework 'jax'" in err


def test_a_file_where_a_folder_should_be_is_one_line(seqport, tmp_path):
    (tmp_path / "file").touch()
    code, _, err = seqport("export", "rescale", "--framework", "pytorch", "--folder", tmp_path / "file" / "build")
    assert code == 1 and err.startswith("seqport: ") and err.count("\n") == 1


def test_parity_exports_and_proves(seqport, tmp_path, strict_json):
    code, out, err = seqport("parity", "rescale", "--folder", tmp_path, "--json", tmp_path / "parity.json")
    assert code == 0 and "rescale  onnx-from-keras    cpu" in out and "export 2/2" in err
    assert strict_json((tmp_path / "parity.json").read_text())["ok"] is True


def test_bench_zoo_prints_and_writes(seqport, tmp_path, strict_json):
    code, out, _ = seqport("bench", "zoo", "rescale", "--folder", tmp_path, "--json", tmp_path / "bench.json")
    assert code == 0 and "overhead" in out and "exports" in out
    assert len(strict_json((tmp_path / "bench.json").read_text())["exports"]) == 2


def test_bench_measures_a_part_of_the_grid_and_writes_a_page(seqport, tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    page, folder = tmp_path / "docs" / "speed.md", tmp_path / "bench"
    part = ["--cells", "rnn", "--sizes", "64", "--batches", "1", "--fills", "0.6", "--kinds", "batch"]
    options = [*part, "--peers", "seqport,ONNX Runtime,sgemm (NumPy)", "--seconds", "0", "--folder", folder]
    code, out, err = seqport("bench", *options, "--page", page)
    assert code == 0 and "bench 2/2: batch rnn-64-bi B=1 T=100 fill=0.6: 4 timed" in err
    assert "## Where seqport is not the fastest" in out
    text = page.read_text()
    assert "**A part of the grid**: 229 of its cases were not measured." in text and "### RNN, bidirectional" in text
    assert {path.name for path in (tmp_path / "docs/speed").iterdir()} == {"rnn-uni.svg", "rnn-bi.svg"}
    code, again, err = seqport("bench", *options)
    assert code == 0 and again == out and err.count("measured before") == 2


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--sizes", "64,big"], "--sizes is '64,big', expected numbers with commas between them"),
        (["--cells", "lstm,elman"], "cells: elman is not in the grid, expected some of lstm, gru, rnn"),
        (["--peers", "Caffe"], "nobody called 'Caffe' takes part, expected one of seqport, "),
    ],
)
def test_bench_refuses_what_it_does_not_have(options, said, seqport, tmp_path):
    code, out, err = seqport("bench", *options, "--folder", tmp_path)
    assert (code, out) == (1, "") and err.startswith(f"seqport: {said}") and err.count("\n") == 1


def test_train_writes_weights_with_their_score(seqport, tmp_path, monkeypatch):
    trained = zoo.load_weights("rescale")
    monkeypatch.setattr("seqport.models.zoo.train.train", lambda _, progress: progress(1, 30, 0.5) or trained)
    code, out, err = seqport("train", "rescale", "--output", tmp_path / "new.safetensors")
    assert code == 0 and out == f"{tmp_path / 'new.safetensors'}: accuracy {trained.metadata['score']}\n"
    assert err == "train rescale 1/30: epoch 1, loss 0.5\n"
    assert Weights.load(tmp_path / "new.safetensors").spec == trained.spec
