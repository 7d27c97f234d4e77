"""Runners, layouts and exports: every part has them, and they mean the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from seqport.models import zoo
from seqport.pipeline import PipelineError
from seqport.pipeline.answers import answer
from seqport.pipeline.batches import batches
from seqport.pipeline.build import SECONDS_ALLOWED, artifact_path, build_zoo
from seqport.pipeline.layout import Layout, describe, padding_of
from seqport.pipeline.runners import NAMES, open_runners
from seqport.runtime import NotOnnxError, read_description


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("model", ["rescale", "numbers"])
def test_every_runner_gives_the_parts_outputs(model, name, folder):
    weights = zoo.load_weights(model)
    runners = open_runners(name, model, weights, folder)
    for part, several in batches(zoo.get(model), weights):
        batch = several[1]
        found = runners[part.name]({**batch.inputs, "unknown": np.zeros(1)})
        assert tuple(found) == part.outputs
        sizes = {"batch": batch.rows, "seq": batch.steps}
        for info in describe(part).outputs:
            axes = tuple(sizes[axis] if isinstance(axis, str) else axis for axis in info.axes)
            assert found[info.name].shape == axes
            assert found[info.name].dtype == (np.float64 if name == "oracle" else info.dtype)


def test_an_unknown_runner_and_a_missing_artifact(tmp_path):
    weights = zoo.load_weights("rescale")
    with pytest.raises(
        PipelineError, match="there is no runner 'onnx': expected one of oracle, pytorch, keras, onnx-from-"
    ):
        open_runners("onnx", "rescale", weights, tmp_path)
    with pytest.raises(NotOnnxError, match=r"rescale.keras.onnx does not exist"):
        open_runners("onnx-from-keras", "rescale", weights, tmp_path)


def test_artifacts_say_what_their_parts_say(exports):
    for built in exports:
        part = next(part for part in zoo.get(built.model).spec.parts() if part.name == built.part)
        found, expected = read_description(built.path), describe(part)
        assert (found.inputs, found.outputs) == (expected.inputs, expected.outputs)
        assert (found.sequences, found.states) == (expected.sequences, expected.states)
        assert built.bytes == built.path.stat().st_size and built.seconds > 0


def test_artifacts_are_named_after_model_part_and_framework():
    paths = [
        artifact_path(Path("build"), name, part, "keras") for name in zoo.names() for part in zoo.get(name).spec.parts()
    ]
    assert [path.name for path in paths] == [
        *("language.keras.onnx", "hyphenation.keras.onnx", "digits.keras.onnx", "forecast.keras.onnx"),
        *("generator.keras.onnx", "numbers.encoder.keras.onnx", "numbers.decoder.keras.onnx", "rescale.keras.onnx"),
    ]


def test_an_unknown_framework_is_refused(tmp_path):
    with pytest.raises(PipelineError, match="there is no framework 'jax': expected one of pytorch, keras"):
        build_zoo(["rescale"], tmp_path, ["jax"])


def test_the_allowed_time_is_the_stated_one():
    assert SECONDS_ALLOWED == 3.0


@pytest.mark.parametrize("model", ["generator", "numbers"])
def test_the_runtimes_loop_writes_what_the_zoos_loop_writes(model, folder):
    task = zoo.get(model)
    found = answer(task, task.load().test, open_runners("onnx-from-pytorch", model, zoo.load_weights(model), folder))
    assert found.tokens and all(found.tokens)
    if model == "numbers":  # the zoo's own loop keeps the end token, the runtime's leaves it out
        end = task.answers.index("<end>")
        rows = [row[: list(row).index(end)] if end in row else row for row in found.predictions]
        assert [tuple(row) for row in rows] == list(found.tokens)
        assert found.score > 0.99
    else:  # letters, and words that only a model with a memory writes
        words = ["".join(task.answers[token] for token in row) for row in found.tokens]
        assert len(words) == 26 and sum(len(word) > 3 for word in words) > 20
        assert all(word.isalpha() for word in words)


def test_a_layout_takes_resizes_and_cuts():
    (part,) = zoo.get("generator").spec.parts()
    layout = Layout.of(part)
    inputs = {"ids": np.arange(6).reshape(2, 3), "lengths": np.array([3, 2]), "h_0": np.arange(4.0).reshape(1, 2, 2)}
    taken = layout.take_inputs(inputs, np.array([1]))
    assert taken["ids"].tolist() == [[3, 4, 5]] and taken["h_0"].tolist() == [[[2.0, 3.0]]]
    assert layout.resize_inputs(inputs, 4)["ids"].tolist() == [[0, 1, 2, 0], [3, 4, 5, 0]]
    assert layout.resize_inputs(inputs, 1)["ids"].tolist() == [[0], [3]]
    outputs = {"output": np.zeros((2, 3, 5)), "h_T": inputs["h_0"]}
    assert layout.cut_outputs(outputs, 2)["output"].shape == (2, 2, 5)
    assert layout.cut_outputs(outputs, 9)["output"].shape == (2, 3, 5)
    padding = padding_of(outputs["output"], layout.outputs["output"], inputs["lengths"])
    assert padding[..., 0].tolist() == [[False] * 3, [False, False, True]]
    assert not padding_of(outputs["h_T"], layout.outputs["h_T"], inputs["lengths"]).any()
