"""A project from its seqport.toml: what is built, what is left as it is, and what is refused."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from support.checks import run_file

from seqport.pipeline import PipelineError
from seqport.pipeline.project import build_project, read_project

from .conftest import PROJECT, forget


def states(folder: Path, *names: str, force: bool = False) -> dict[str, str]:
    """What a build does, in a process that has not imported the package yet."""
    forget()
    return {o.recipe.name: o.state for o in build_project(read_project(folder), names, force=force)}


def test_a_project_is_exported_where_it_says(shop: Path):
    assert states(shop) == {"tagger": "exported", "other": "exported"}
    feed = {"x": np.ones((2, 3, 2), np.float32), "lengths": np.array([3, 1])}
    assert run_file(shop / "build" / "tagger.onnx", feed)["logits"].shape == (2, 3, 3)
    assert (shop / "build" / "named.onnx").is_file()


def test_only_what_changed_is_exported_again(shop: Path):
    both = {"tagger": "exported", "other": "exported"}
    assert states(shop) == both
    assert set(states(shop).values()) == {"unchanged"}
    assert states(shop, force=True) == both
    assert states(shop, "tagger", force=True) == {"tagger": "exported"}
    # The file that the model's own file imports; then one that no model has.
    heads = shop / "shop" / "heads.py"
    heads.write_text(heads.read_text() + "\n# another line\n")
    assert states(shop) == both
    (shop / "shop" / "unrelated.py").write_text("x = 1\n")
    assert set(states(shop).values()) == {"unchanged"}


@pytest.mark.parametrize("change", ["recipe", "artifact", "missing", "ledger"])
def test_a_changed_recipe_or_artifact_is_exported_again(shop: Path, change: str):
    states(shop, "tagger")
    artifact = shop / "build" / "tagger.onnx"
    before = artifact.read_bytes()
    if change == "recipe":
        (shop / "seqport.toml").write_text(PROJECT.replace('"logits"', '"scores"'))
    elif change == "artifact":
        artifact.write_bytes(before + b"\0")
    elif change == "missing":
        artifact.unlink()
    else:
        (shop / "build" / ".seqport-build.json").write_text("[]")
    assert states(shop, "tagger") == {"tagger": "exported"}
    assert (artifact.read_bytes() == before) == (change != "recipe")


def test_weights_and_what_a_model_depends_on_count(shop: Path):
    torch.manual_seed(0)
    lstm = torch.nn.ModuleDict({"lstm": torch.nn.LSTM(2, 3, batch_first=True), "head": torch.nn.Linear(3, 3)})
    torch.save(lstm.state_dict(), shop / "w.pt")
    (shop / "data").mkdir()
    (shop / "data" / "words.txt").write_text("a b")
    more = 'weights = "w.pt"\ndepends = ["data/*.txt"]\noutputs'
    (shop / "seqport.toml").write_text(PROJECT.replace("outputs", more, 1))
    assert states(shop, "tagger") == {"tagger": "exported"}
    assert states(shop, "tagger") == {"tagger": "unchanged"}
    for change in (
        lambda: (shop / "data" / "words.txt").write_text("a b c"),
        lambda: (shop / "data" / "more.txt").write_text("d"),
        lambda: torch.save({k: v + 1 for k, v in lstm.state_dict().items()}, shop / "w.pt"),
    ):
        change()
        assert states(shop, "tagger") == {"tagger": "exported"}
        assert states(shop, "tagger") == {"tagger": "unchanged"}


def test_one_failure_keeps_no_other_back_and_its_old_file_stays(shop: Path):
    states(shop)
    before = (shop / "build" / "tagger.onnx").read_bytes()
    (shop / "seqport.toml").write_text(PROJECT.replace("[batch,seq,2]", "[batch,seq,9]", 1))
    outcomes = {o.recipe.name: o for o in build_project(read_project(shop))}
    assert outcomes["other"].state == "unchanged" and outcomes["tagger"].state == "failed"
    assert "lstm: gets input of shape" in outcomes["tagger"].reason
    assert (shop / "build" / "tagger.onnx").read_bytes() == before
    assert states(shop)["tagger"] == "failed"  # a failure is not taken for done


def test_two_models_with_helpers_of_the_same_name_do_not_share_them(shop: Path):
    for name, number in (("a", 1), ("b", 100)):
        (shop / name).mkdir()
        (shop / name / "helpers.py").write_text(f"HIDDEN = {number}\n")
        (shop / name / "model.py").write_text(
            "import sys\nsys.path.insert(0, __file__.rpartition('/')[0])\nfrom torch import nn\n"
            "from helpers import HIDDEN\n\n\ndef build():\n    return nn.GRU(2, HIDDEN, batch_first=True)\n"
        )
    (shop / "seqport.toml").write_text(
        "".join(f'[models.{n}]\nsource = "{n}/model.py:build"\ninputs = ["x[batch,seq,2]"]\n' for n in "ab")
    )
    assert states(shop) == {"a": "exported", "b": "exported"}
    found = [o.recipe.name for o in build_project(read_project(shop)) if o.state != "unchanged"]
    assert not found
    sizes = [run_file(shop / "build" / f"{n}.onnx", {"x": np.ones((1, 1, 2), np.float32)}) for n in "ab"]
    assert [next(iter(out.values())).shape for out in sizes] == [(1, 1, 1), (1, 1, 100)]
    (shop / "b" / "helpers.py").write_text("HIDDEN = 50\n")
    assert states(shop) == {"a": "unchanged", "b": "exported"}


def test_a_model_that_a_module_holds_is_new_for_every_artifact(shop: Path):
    torch.save({k: v + 1 for k, v in torch.nn.GRU(2, 3, batch_first=True).state_dict().items()}, shop / "w.pt")
    (shop / "shop" / "held.py").write_text(
        "import torch\ntorch.manual_seed(0)\nMODEL = torch.nn.GRU(2, 3, batch_first=True)\n"
    )
    recipe = '[models.{}]\nsource = "shop.held:MODEL"\ninputs = ["x[batch,seq,2]"]\n'
    (shop / "seqport.toml").write_text(recipe.format("tuned") + 'weights = "w.pt"\n' + recipe.format("base"))
    assert states(shop) == {"tuned": "exported", "base": "exported"}
    feed = {"x": np.ones((1, 2, 2), np.float32)}
    tuned, base = (run_file(shop / "build" / f"{n}.onnx", feed)["output_0"] for n in ("tuned", "base"))
    assert np.abs(tuned - base).max() > 0.1


def test_what_is_saved_while_an_export_runs_is_built_the_next_time(shop: Path):
    path = shop / "shop" / "tagging.py"
    heads = str(shop / "shop" / "heads.py")
    saving = f"\n\ndef saved():\n    with open({heads!r}, 'a') as file:\n        file.write('# saved\\n')\n"
    text = path.read_text().replace("model = build()", "").replace("    torch.manual_seed(0)", "    saved()")
    path.write_text(text + saving)
    (shop / "seqport.toml").write_text(PROJECT.replace("shop.tagging:model", "shop.tagging:build"))
    assert states(shop, "other") == {"other": "exported"}
    path.write_text(path.read_text().replace("    saved()", "    torch.manual_seed(0)"))
    assert states(shop, "other") == {"other": "exported"}
    assert states(shop, "other") == {"other": "unchanged"}


@pytest.mark.parametrize("pattern", ["/etc/hos*", "", "data/*.text"])
def test_a_pattern_that_stands_for_nothing_is_refused(shop: Path, pattern: str):
    (shop / "seqport.toml").write_text(PROJECT.replace("outputs", f'depends = ["{pattern}"]\noutputs', 1))
    (outcome,) = build_project(read_project(shop), ["tagger"])
    assert outcome.state == "failed" and f"depends {pattern!r}" in outcome.reason


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("models = 3", "seqport.toml: models is 3: expected a table"),
        ("", "seqport.toml has no model: expected a table [models.NAME] with a source"),
        ("[models.a]", "models.a has no source: expected 'module:attribute'"),
        ("[models.a]\nsource = 3", "models.a.source is 3: expected a string"),
        ("[models.a]\nsource = 's:b'\nopset = true", "models.a.opset is True: expected a number"),
        ("[models.a]\nsource = 's:b'\ninputs = 'x[batch]'", "models.a.inputs is 'x[batch]': expected a list"),
        ("[models.a]\nsource = 's:b'\ninputs = [3]", "an entry of seqport.toml: models.a.inputs is 3"),
        ("[models.a]\nsource = 's:b'\nexample = { x = 3 }", "models.a.example.x is 3: expected a string"),
        ("[models.a]\nsorce = 's:b'", "models.a has the unknown key 'sorce': expected some of source, "),
        ("[model.a]\nsource = 's:b'", "seqport.toml has the unknown key 'model': expected some of output, models"),
        ("[models.a", "seqport.toml is no TOML: "),
        ("[models.a]\nsource='s:b'\nfile='x'\n[models.b]\nsource='s:c'\nfile='x'", "two models are written to build/x"),
    ],
)
def test_a_project_file_that_cannot_be_understood(text: str, said: str, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("seqport.toml").write_text(text)
    with pytest.raises(PipelineError, match=re.escape(said)):
        read_project(Path("seqport.toml"))


def test_a_project_that_is_not_there(tmp_path: Path):
    with pytest.raises(PipelineError, match=r"seqport\.toml does not exist: expected a project file"):
        read_project(tmp_path)


def test_the_build_command(seqport, shop: Path):
    code, out, err = seqport("build")
    assert code == 0 and out.splitlines()[0] == "build" and "build/named.onnx" in out
    assert err == "build 1/2: tagger exported\nbuild 2/2: other exported\n"
    code, out, _ = seqport("build", "other", "--file", shop)
    assert code == 0 and "unchanged" in out and "tagger" not in out
    code, _, err = seqport("build", "tager")
    assert code == 1 and "seqport: the project has no model 'tager': it has tagger, other" in err
    (shop / "shop" / "heads.py").write_text("1 / 0")
    forget()
    code, out, _ = seqport("build")
    assert code == 1 and "tagger failed: importing shop.tagging failed: ZeroDivisionError" in out


def test_the_export_command_takes_a_model_by_name(seqport, shop: Path):
    inputs = ["--input", "x[batch,seq,2]", "--input", "lengths:int64[batch]"]
    path = shop / "new" / "m.onnx"
    code, out, _ = seqport("export", "shop.tagging:build", *inputs, "--set", "hidden=6", "-o", path, "--opset=20")
    assert code == 0 and out.startswith(f"{path}: ")
    assert "  input  x: float32[batch,seq,2]" in out and "  LSTM   lstm: forward, lengths from lengths" in out
    code, out, _ = seqport("inspect", path, "--json", "-")
    assert json.loads(out)["opset"] == 20


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["shop.tagging:build"], "is missing: the ONNX file to write"),
        (["shop.tagging:build", "shop.tagging:model", "-o", "m.onnx"], "takes one model of your own"),
        (["rescale", "-o", "m.onnx"], "goes with a model of your own, MODULE:ATTRIBUTE or a path"),
        (["rescale", "--opset=22"], "goes with a model of your own, MODULE:ATTRIBUTE or a path"),
        (["shop.tagging:build", "-o", "m.onnx", "--framework=keras"], "goes with models of the zoo"),
    ],
)
@pytest.mark.usefixtures("shop")
def test_export_options_that_do_not_go_together(seqport, arguments, said):
    code, out, err = seqport("export", *arguments)
    assert code == 2 and out == "" and said in err
