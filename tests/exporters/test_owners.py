"""Whose files are whose: numbers note what the user's code compares, and nobody else's."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import seqport
from seqport.exporters.frontends.noting.owners import is_library, is_users, of_users
from seqport.exporters.frontends.pytorch.integers import integers_symbolic
from seqport.exporters.frontends.pytorch.loops import may_loop

INSTALLED = Path(torch.__file__).parent.parent
OURS = Path(seqport.__file__).parent


@pytest.mark.parametrize(
    "path",
    [
        INSTALLED / "torchcrf" / "__init__.py",
        INSTALLED / "torchaudio" / "models" / "conformer.py",
        INSTALLED / "numpy_ml" / "rnn.py",
        OURS / "models" / "zoo.py",
        Path("/home/user/seqport/exporters/model.py"),
        Path(str(OURS) + "_mine") / "model.py",
        Path(__file__),
    ],
    ids=str,
)
def test_a_package_with_a_longer_name_is_the_users(path: Path) -> None:
    assert is_users(str(path))
    assert not is_library(str(path))


@pytest.mark.parametrize(
    "path",
    [INSTALLED / "torch" / "nn" / "modules" / "rnn.py", OURS / "exporters" / "arrangement.py", OURS / "errors.py"],
    ids=str,
)
def test_frameworks_and_seqport_are_not_the_users(path: Path) -> None:
    assert is_library(str(path))
    assert not is_users(str(path))


def test_the_standard_library_is_not_the_users() -> None:
    assert not is_users(os.__file__)


def test_a_class_that_names_no_module_may_loop() -> None:
    names: dict[str, Any] = {"__name__": None, "nn": nn}
    exec(
        "class Doubled(nn.Module):\n"
        "    def forward(self, x):\n"
        "        for _ in range(1):\n"
        "            x = x * 2\n"
        "        return x\n",
        names,
    )
    model: nn.Module = names["Doubled"]()
    assert type(model).__module__ is None
    assert may_loop(model)
    with integers_symbolic(model, wanted=True, with_range=True):
        assert "range" in names
    assert "range" not in names


def test_a_function_of_exec_is_the_users() -> None:
    names: dict[str, Any] = {"__name__": None}
    exec("def doubled(x):\n    return x * 2\n", names)
    assert of_users(names["doubled"])
    assert not of_users(nn.GRU)
    assert not of_users(Tensor)
