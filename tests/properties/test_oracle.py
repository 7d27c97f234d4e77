"""Any drawn specification: the oracle, both frameworks and both artifacts give the same from the same weights."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from properties.batches import VOCABULARY, Batch, several
from properties.profiles import examples
from seqport.exporters import Input
from seqport.models import ModelSpec, Part, Weights
from seqport.pipeline.build import FRAMEWORKS, export_part
from seqport.pipeline.compare import assert_same
from seqport.pipeline.layout import Layout
from seqport.pipeline.runners import ArtifactRunner, KerasRunner, PyTorchRunner, Runner, oracle_runner

STRATEGIES = ("one_to_one", "one_to_many", "many_to_one", "many_to_many", "encoder_decoder")


@st.composite
def specs(draw: st.DrawFn) -> ModelSpec:
    """Any specification."""
    cell: Any = draw(st.sampled_from(["rnn", "gru", "lstm"]))
    strategy: Any = draw(st.sampled_from(STRATEGIES))
    tokens, feeds_itself = draw(st.booleans()), strategy == "one_to_many"
    output: Any = draw(st.sampled_from(["none", "softmax", "sigmoid"]))
    out_dim = draw(st.integers(2 if output == "softmax" else 1, 4))  # Keras warns of a softmax over one number
    if strategy == "encoder_decoder" or (tokens and feeds_itself):
        out_dim = VOCABULARY
    choices: dict[str, Any] = {}
    if cell == "rnn":
        choices["activation"] = draw(st.sampled_from(["tanh", "relu"]))
    if cell == "gru":
        choices["reset_gate"] = draw(st.sampled_from(["after", "before"]))
    return ModelSpec(
        cell=cell,
        input_dim=out_dim if feeds_itself and not tokens else draw(st.integers(1, 4)),
        num_hidden_units=draw(st.integers(1, 5)),
        out_dim=out_dim,
        seq_max_len=1 if strategy == "one_to_one" else 12,
        strategy=strategy,
        output=output,
        num_layers=draw(st.integers(1, 3)),
        bidirectional=strategy not in ("one_to_many", "encoder_decoder") and draw(st.booleans()),
        vocab_size=VOCABULARY if tokens else None,
        initial_state=draw(st.booleans()),
        **choices,
    )


@examples(few=6)
@given(spec=specs(), batches=several())
def test_everything_gives_what_the_oracle_gives(folder: Path, spec: ModelSpec, batches: list[Batch]) -> None:
    check(spec, batches, folder)


def check(spec: ModelSpec, batches: list[Batch], folder: Path) -> None:
    """Every part in both frameworks and from both, on batches whose padding is full of data."""
    weights = Weights.random(spec, seed=0)
    for part in spec.parts():
        layout, oracle = Layout.of(part), oracle_runner(part, weights)
        inputs = [Input(*tensor) for tensor in part.inputs]
        for name, run in _runners(part, weights, folder):
            for batch in batches:
                if part.seq_max_len == 1:
                    batch = replace(batch, seq=1, lengths=(1,) * len(batch.lengths))
                arrays = batch.arrays(inputs)
                try:
                    assert_same(run(arrays), oracle(arrays), layout, arrays["lengths"])
                except AssertionError as error:
                    raise AssertionError(f"{name}, {part.name}, {batch}: {error}") from error


def _runners(part: Part, weights: Weights, folder: Path) -> Iterator[tuple[str, Runner]]:
    yield "pytorch", PyTorchRunner(part, weights)
    yield "keras", KerasRunner(part, weights)
    for framework in FRAMEWORKS:
        path = folder / f"{framework}.onnx"
        export_part(part, weights, framework, path)
        yield f"onnx-from-{framework}", ArtifactRunner(path, part)
