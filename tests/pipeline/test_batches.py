"""The batches of the proof are real, padded, unsorted, and of shapes that no export saw."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest

from seqport.models import zoo
from seqport.pipeline.batches import batches, for_padding
from seqport.pipeline.build import export_part
from seqport.pipeline.layout import Layout

PADDED = ("language", "hyphenation", "digits", "forecast", "generator", "numbers")


@pytest.fixture(params=zoo.names())
def parts(request: pytest.FixtureRequest):
    return list(batches(zoo.get(request.param), zoo.load_weights(request.param)))


def test_they_fit_the_part_and_its_layout(parts):
    for part, several in parts:
        layout = Layout.of(part)
        for batch in several:
            sizes = {"batch": batch.rows, "seq": batch.steps}
            assert set(batch.inputs) == {name for name, _, _ in part.inputs}
            for name, axes, dtype in part.inputs:
                shape = tuple(sizes[axis] if isinstance(axis, str) else axis for axis in axes)
                assert (batch.inputs[name].shape, batch.inputs[name].dtype) == (shape, dtype)
            assert layout.steps(batch.inputs) == batch.steps


def test_they_have_rows_of_one_step_and_of_all_and_in_no_order(parts):
    for _, several in parts:
        for batch in several:
            lengths = batch.inputs["lengths"]
            assert lengths.max() == batch.steps
            assert lengths.min() == 1 or batch.rows == 1
            if batch.rows > 1 and batch.steps > 1:
                assert (np.diff(lengths) > 0).any()  # PyTorch's default would refuse it


def test_the_padding_is_zero_and_the_states_are_not(parts):
    for part, several in parts:
        for batch in several:
            source = batch.inputs[part.inputs[0].name]
            padding = np.arange(batch.steps) >= batch.inputs["lengths"][:, None]
            assert not source[padding].any()
            for name, _, _ in part.inputs[2:]:
                assert np.abs(batch.inputs[name]).min(axis=(0, 2)).any()


def test_no_shape_is_one_that_an_export_was_proven_at(monkeypatch, tmp_path):
    seen = set()

    class Recording(onnxruntime.InferenceSession):
        def run(self, output_names, input_feed, run_options=None):
            seen.add(input_feed["ids"].shape)
            return super().run(output_names, input_feed, run_options)

    monkeypatch.setattr(onnxruntime, "InferenceSession", Recording)
    weights = zoo.load_weights("language")
    ((part, several),) = batches(zoo.get("language"), weights)
    export_part(part, weights, "pytorch", tmp_path / "language.onnx")
    assert seen and not seen & {(batch.rows, batch.steps) for batch in several if batch.rows > 1}
    assert max(batch.rows for batch in several) > max(rows for rows, _ in seen)


@pytest.mark.parametrize("name", PADDED)
def test_rows_begin_as_those_of_the_test_split_do(name):
    part, several = next(iter(batches(zoo.get(name), zoo.load_weights(name))))
    source = part.inputs[0].name
    real = zoo.get(name).load().test.inputs[source]
    batch = several[3]
    for row, length in zip(batch.inputs[source], batch.inputs["lengths"], strict=True):
        assert (real[:, :length] == row[:length]).reshape(len(real), -1).all(axis=1).any()


def test_the_decoder_reads_the_true_answer_behind_the_start_token():
    task = zoo.get("numbers")
    _, (_, several) = batches(task, zoo.load_weights("numbers"))
    inputs = for_padding(several).inputs
    assert (inputs["ids"][:, 0] == task.answers.index("<start>")).all()
    targets = task.load().test.targets
    for row, length in zip(inputs["ids"], inputs["lengths"], strict=True):
        assert (targets[:, : length - 1] == row[1:length]).all(axis=1).any()


def test_they_are_the_same_each_time():
    task, weights = zoo.get("numbers"), zoo.load_weights("numbers")
    for (_, first), (_, again) in zip(batches(task, weights), batches(task, weights), strict=True):
        for one, other in zip(first, again, strict=True):
            assert all(np.array_equal(one.inputs[name], other.inputs[name]) for name in one.inputs)
