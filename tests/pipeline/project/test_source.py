"""A model from its name: what can be named, and what is said where it cannot."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from seqport.exporters import Input, InputsError
from seqport.pipeline import PipelineError
from seqport.pipeline.project.source import load_source
from seqport.pipeline.project.spelling import parse_input
from seqport.pipeline.project.weights import load_weights


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ids:int64[batch,seq]", Input("ids", ("batch", "seq"), "int64")),
        ("x[batch, seq, 8]", Input("x", ("batch", "seq", 8))),
        (" h_0 : float64 [2,batch,5]", Input("h_0", (2, "batch", 5), "float64")),
        ("step:int64[]", Input("step", (), "int64")),
    ],
)
def test_an_input_is_spelled_in_one_word(text, expected):
    assert parse_input(text) == expected


@pytest.mark.parametrize("text", ["ids", "ids:int64", "ids:int64[batch", "[batch]", "ids:int64(batch)"])
def test_another_spelling_is_refused_with_an_example(text):
    with pytest.raises(PipelineError, match=re.escape(f"input {text!r} cannot be read: expected NAME:DTYPE[AXIS,...]")):
        parse_input(text)


@pytest.mark.parametrize("text", ["ids:string[batch]", "ids[batch,0]", "ids[batch,]", "ids[-1]"])
def test_an_axis_or_a_type_that_is_none_is_an_input_error(text):
    with pytest.raises(InputsError):
        parse_input(text)


def test_an_attribute_is_called_or_taken_as_it_is(shop: Path):
    built, module = load_source("shop.tagging:build", {"hidden": 5}, shop)
    assert built.lstm.hidden_size == 5 and module is not None and module.__name__ == "shop.tagging"
    assert load_source("shop.tagging:Tagger", {"hidden": 6}, shop)[0].lstm.hidden_size == 6
    assert isinstance(load_source("shop.tagging:model", {}, shop)[0], torch.nn.Module)


def test_a_file_of_its_own_needs_no_package(shop: Path):
    (shop / "sub").mkdir()
    (shop / "sub" / "alone.py").write_text("import helper\nmodel = helper.make()\n")
    (shop / "sub" / "helper.py").write_text("from torch import nn\ndef make():\n    return nn.GRU(2, 3)\n")
    assert load_source("sub/alone.py:model", {}, shop)[0].hidden_size == 3


def test_a_path_is_left_to_the_exporter(shop: Path):
    (shop / "frozen.pb").write_bytes(b"")
    assert load_source("frozen.pb", {}, shop) == (shop / "frozen.pb", None)


@pytest.mark.parametrize(
    ("source", "arguments", "said"),
    [
        ("shop.tagging:bild", {}, "shop.tagging has no attribute 'bild': it defines Tagger, build, nothing"),
        ("shop.taging:build", {}, "there is no module 'shop.taging': looked in "),
        ("shopp:build", {}, "there is no module 'shopp'"),
        ("shop.tagging:NUMBER", {}, "shop.tagging:NUMBER is a int: expected a model, or a function that returns one"),
        ("shop.tagging:nothing", {}, "shop.tagging:nothing returned a int: expected a model"),
        ("shop.tagging:model", {"hidden": 2}, "is a model already and takes no arguments: hidden"),
        ("shop.tagging:build", {"fail": True}, "calling shop.tagging:build failed: RuntimeError: no such corpus ("),
        ("shop.tagging:build", {"width": 1}, "failed: TypeError: build() got an unexpected keyword argument 'width'"),
        (":build", {}, "':build' names no model: expected MODULE:ATTRIBUTE"),
        ("none.py:build", {}, "none.py does not exist: expected a Python file"),
        ("none.keras", {}, "none.keras does not exist: expected a saved model, or MODULE:ATTRIBUTE"),
        ("frozen.pb", {"hidden": 2}, "frozen.pb is a saved model and takes no arguments: hidden"),
        ("shop.broken:build", {}, "importing shop.broken failed: ZeroDivisionError: division by zero ("),
        ("shop.needy:build", {}, "shop.needy imports 'no_such_package', which is not installed"),
    ],
)
def test_what_cannot_be_had_is_one_clear_error(shop: Path, source, arguments, said):
    (shop / "frozen.pb").write_bytes(b"")
    (shop / "shop" / "broken.py").write_text("1 / 0\n")
    (shop / "shop" / "needy.py").write_text("import no_such_package\n")
    with pytest.raises(PipelineError, match=re.escape(said)):
        load_source(source, arguments, shop)


@pytest.fixture
def gru() -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.GRU(2, 3))


@pytest.mark.parametrize("wrap", ["bare", "prefix", "prefixes", "state_dict", "model_state_dict"])
def test_weights_come_from_wherever_training_left_them(wrap, gru, tmp_path):
    torch.manual_seed(1)
    wanted = torch.nn.Sequential(torch.nn.GRU(2, 3)).state_dict()
    prefix = {"prefix": "module.", "prefixes": "_orig_mod.module."}.get(wrap, "")
    state = {prefix + key: value for key, value in wanted.items()}
    path = tmp_path / "w.pt"
    torch.save({"epoch": 3, wrap: state} if wrap.endswith("dict") else state, path)
    load_weights(gru, path)
    assert all(torch.equal(gru.state_dict()[key], value) for key, value in wanted.items())


def test_weights_in_safetensors(gru, tmp_path):
    from safetensors.torch import save_file

    wanted = {key: value + 1 for key, value in gru.state_dict().items()}
    save_file(wanted, tmp_path / "w.safetensors")
    load_weights(gru, tmp_path / "w.safetensors")
    assert torch.equal(gru[0].weight_hh_l0, wanted["0.weight_hh_l0"])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"0.weight_ih_l0": torch.zeros(9, 2)}, "does not fit Sequential: it lacks 0.weight_hh_l0, 0.bias_ih_l0, 0.bi"),
        ({"a": torch.zeros(1), "b": torch.zeros(1)}, "the model has no a, b"),
        ({"epoch": 3}, "holds a dict of epoch, and no state dict: save model.state_dict()"),
        ([1, 2], "holds a list, and no state dict"),
        (torch.nn.GRU(2, 3), "holds more than tensors, and loading it would run its code: save model.state_dict()"),
    ],
)
def test_weights_that_do_not_fit_are_one_clear_error(content, said, gru, tmp_path):
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(PipelineError, match=re.escape(said)):
        load_weights(gru, tmp_path / "w.pt")


def test_weights_of_another_shape_name_both(gru, tmp_path):
    torch.save(torch.nn.Sequential(torch.nn.GRU(2, 4)).state_dict(), tmp_path / "w.pt")
    with pytest.raises(PipelineError, match=re.escape("0.weight_ih_l0 is [12, 2] in the file and [9, 2] in the model")):
        load_weights(gru, tmp_path / "w.pt")


def test_weights_that_are_no_file_of_weights(gru, tmp_path):
    (tmp_path / "w.pt").write_text("weights")
    with pytest.raises(PipelineError, match=r"w\.pt cannot be read as PyTorch weights|holds more than tensors"):
        load_weights(gru, tmp_path / "w.pt")
    with pytest.raises(PipelineError, match=r"none\.pt do not exist"):
        load_weights(gru, tmp_path / "none.pt")


# Keras's own conversion of its variables, under NumPy 2.
@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning")
def test_keras_weights(tmp_path):
    import keras

    layers = [keras.Input((None, 2)), keras.layers.GRU(3)]
    model, trained = keras.Sequential(layers), keras.Sequential([keras.Input((None, 2)), keras.layers.GRU(3)])
    trained.save_weights(tmp_path / "w.weights.h5")
    load_weights(model, tmp_path / "w.weights.h5")
    assert all((a == b).all() for a, b in zip(*([w.numpy() for w in m.weights] for m in (model, trained)), strict=True))
    wider = keras.Sequential([keras.Input((None, 2)), keras.layers.GRU(4)])
    with pytest.raises(PipelineError, match=r"w\.weights\.h5 does not fit Sequential"):
        load_weights(wider, tmp_path / "w.weights.h5")
