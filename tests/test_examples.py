"""The examples do what the README says of them."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

import seqport
from seqport.pipeline.project import build_project, read_project
from seqport.runtime import Session

EXAMPLES = Path(seqport.__file__).parents[2] / "examples"


def test_the_project_builds_and_its_artifacts_answer(tmp_path: Path):
    folder = Path(shutil.copytree(EXAMPLES / "tagger", tmp_path / "tagger", ignore=shutil.ignore_patterns("build")))
    outcomes = {one.recipe.name: one for one in build_project(read_project(folder))}
    assert {name: one.reason for name, one in outcomes.items()} == {"tagger": "", "keras-tagger": ""}
    for name in outcomes:
        session = Session(folder / "build" / f"{name}.onnx", "cpu")
        rows = session.predict([np.array([5, 8, 2]), np.array([7])])
        assert [row["logits"].shape for row in rows] == [(3, 7), (1, 7)]
