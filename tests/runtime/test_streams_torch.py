"""Streams of real exports from PyTorch, beside PyTorch carrying the state itself, and what it cannot stream."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from seqport.exporters import Input, export
from seqport.runtime import CannotStreamError, InputSizeError, Session

FEATURES, HIDDEN, VOCABULARY, STEPS = 3, 6, 11, 17
X = Input("x", ("batch", "seq", FEATURES))
IDS = Input("ids", ("batch", "seq"), "int64")
LENGTHS = Input("lengths", ("batch",), "int64")
Run = Callable[..., Any]


class Model(nn.Module):
    """A forward as a function, over the layers that it is given."""

    def __init__(self, run: Run, **layers: nn.Module) -> None:
        super().__init__()
        self.run = run
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, *inputs: Tensor) -> Any:
        return self.run(self, *inputs)


def packed_tagger(self: Any, ids: Tensor, lengths: Tensor) -> Tensor:
    packed = pack_padded_sequence(self.embedding(ids), lengths.cpu(), batch_first=True, enforce_sorted=False)
    y, _ = pad_packed_sequence(self.rnn(packed)[0], batch_first=True, total_length=ids.size(1))
    return self.head(y)


def packed_classifier(self: Any, ids: Tensor, lengths: Tensor) -> Tensor:
    packed = pack_padded_sequence(self.embedding(ids), lengths.cpu(), batch_first=True, enforce_sorted=False)
    final = self.rnn(packed)[1]
    return self.head((final[0] if isinstance(final, tuple) else final)[-1])


def tagger(self: Any, x: Tensor) -> Tensor:
    return self.head(self.rnn(x)[0])


def classifier(self: Any, x: Tensor) -> Tensor:
    return self.head(self.rnn(x)[0][:, -1])


def last_valid(self: Any, x: Tensor, lengths: Tensor) -> Tensor:
    return self.head(self.rnn(x)[0][torch.arange(x.size(0)), lengths - 1])


def learned(self: Any, x: Tensor) -> Tensor:
    start = self.start.weight[:, None].expand(-1, x.size(0), -1).contiguous()
    return self.rnn(x, start)[0]


def exported(path: Path, model: nn.Module, *inputs: Input) -> Path:
    torch.manual_seed(0)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    export(model.eval(), path, inputs=inputs)
    return path


def data(item: Input, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    if item is IDS:
        return random.integers(0, VOCABULARY, STEPS)
    return random.standard_normal((STEPS, FEATURES)).astype(np.float32)


def layers(cell: type[nn.RNNBase], features: int, num_layers: int = 1) -> dict[str, nn.Module]:
    rnn = cell(features, HIDDEN, num_layers, batch_first=True)  # type: ignore[call-arg]
    return {"rnn": rnn, "head": nn.Linear(HIDDEN, 2), "embedding": nn.Embedding(VOCABULARY, FEATURES)}


ROWS: dict[str, tuple[Callable[[], Model], tuple[Input, ...]]] = {
    "rnn-tagger": (lambda: Model(packed_tagger, **layers(nn.RNN, FEATURES)), (IDS, LENGTHS)),
    "gru-tagger-2": (lambda: Model(packed_tagger, **layers(nn.GRU, FEATURES, 2)), (IDS, LENGTHS)),
    "lstm-tagger-2": (lambda: Model(packed_tagger, **layers(nn.LSTM, FEATURES, 2)), (IDS, LENGTHS)),
    "gru-classifier": (lambda: Model(packed_classifier, **layers(nn.GRU, FEATURES)), (IDS, LENGTHS)),
    "lstm-classifier-2": (lambda: Model(packed_classifier, **layers(nn.LSTM, FEATURES, 2)), (IDS, LENGTHS)),
    "lstm-no-lengths": (lambda: Model(tagger, **layers(nn.LSTM, FEATURES)), (X,)),
    "gru-last-step": (lambda: Model(classifier, **layers(nn.GRU, FEATURES)), (X,)),
    "gru-last-valid": (lambda: Model(last_valid, **layers(nn.GRU, FEATURES)), (X, LENGTHS)),
    "learned-start": (
        lambda: Model(learned, rnn=nn.GRU(FEATURES, HIDDEN, batch_first=True), start=nn.Embedding(1, HIDDEN)),
        (X,),
    ),
    "one-layer-twice": (
        lambda: Model(lambda self, x: self.rnn(self.rnn(x)[0])[0], rnn=nn.GRU(FEATURES, FEATURES, batch_first=True)),
        (X,),
    ),
    "convolves-one-step": (
        lambda: Model(lambda self, x: self.rnn(self.conv(x.mT).mT)[0], conv=nn.Conv1d(3, 3, 1), **layers(nn.RNN, 3)),
        (X,),
    ),
}


@pytest.mark.parametrize("name", ROWS)
def test_chunks_give_what_pytorch_gives_to_the_whole(name, tmp_path) -> None:
    make, inputs = ROWS[name]
    model = make()
    session = Session(exported(tmp_path / "model.onnx", model, *inputs), "cpu")
    streams = session.streams()
    rows = {seed: data(inputs[0], seed) for seed in range(3)}
    sizes = {0: [1] * STEPS, 1: [5, 0, 12], 2: [0, 4, 4, 9]}
    chunks = {seed: np.split(row, np.cumsum(sizes[seed])[:-1]) for seed, row in rows.items()}
    outputs: dict[int, list[np.ndarray]] = {seed: [] for seed in rows}
    for turn in range(STEPS):
        answers = streams.push({seed: parts[turn] for seed, parts in chunks.items() if turn < len(parts)})
        for seed, answer in answers.items():
            outputs[seed].extend(answer.values())
    for seed, row in rows.items():
        given = [torch.tensor(row[None]), *([torch.tensor([STEPS])] if LENGTHS in inputs else [])]
        with torch.no_grad():
            expected = model(*given)[0].numpy()
        along = expected.ndim == 2
        found = np.concatenate(outputs[seed]) if along else outputs[seed][-1]
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)
        assert streams.steps(seed) == STEPS
    names = streams._model.state_names
    assert len(set(names)) == len(names) and all(name.startswith("rnn") for name in names)


@pytest.mark.parametrize("cell", [nn.RNN, nn.GRU, nn.LSTM])
def test_every_chunk_gives_what_pytorch_gives_with_its_own_state(cell, tmp_path) -> None:
    model = Model(tagger, **layers(cell, FEATURES, 2))
    stream = Session(exported(tmp_path / "model.onnx", model, X), "cpu").stream()
    row, state = torch.tensor(data(X)), None
    for chunk in torch.split(row, [1, 6, 1, 9]):
        with torch.no_grad():
            y, state = model.rnn(chunk[None], state)  # type: ignore[operator]
            expected = model.head(y)[0].numpy()  # type: ignore[operator]
        np.testing.assert_allclose(stream.push(chunk)["output"], expected, rtol=1e-6, atol=1e-6)


def test_a_model_without_lengths_runs_chunks_of_one_size_together(tmp_path) -> None:
    session = Session(exported(tmp_path / "model.onnx", Model(tagger, **layers(nn.LSTM, FEATURES)), X), "cpu")
    streams = session.streams()
    run, batches = streams._model.session.run, []

    class Counted:
        def run(self, names: Any, feed: dict[str, np.ndarray]) -> Any:
            batches.append(feed["x"].shape[:2])
            return run(names, feed)

    streams._model.session = Counted()  # type: ignore[assignment]
    row = data(X)
    streams.push({"a": row[:2], "b": row[:5], "c": row[:2], "d": row[:0]})
    assert sorted(batches) == [(1, 5), (2, 2)]


def test_the_time_major_axis_is_the_one_that_the_layer_reads(tmp_path) -> None:
    model = Model(lambda self, x: self.rnn(x)[0], rnn=nn.GRU(FEATURES, HIDDEN))
    path = exported(tmp_path / "model.onnx", model, Input("x", ("time", "rows", FEATURES)))
    streams, row = Session(path, "cpu").streams(), data(X)
    first, second = (streams.push({1: row[a:b], 2: row[a:b]})[2]["output"] for a, b in ((0, 4), (4, STEPS)))
    with torch.no_grad():
        expected = model(torch.tensor(row[:, None]))[:, 0].numpy()
    np.testing.assert_allclose(np.concatenate([first, second]), expected, rtol=1e-6, atol=1e-6)


def characters_of_words(self: Any, ids: Tensor) -> Tensor:
    batch, words, characters = ids.shape
    spelled = self.embedding(ids).reshape(batch * words, characters, FEATURES)
    word = self.characters(spelled)[1].transpose(0, 1).reshape(batch, words, HIDDEN)
    return self.words(word)[0]


def test_a_layer_along_another_axis_begins_anew_with_every_word(tmp_path) -> None:
    """Words come chunk by chunk; each one's characters are there at once, and may be read both ways."""
    model = Model(
        characters_of_words,
        embedding=nn.Embedding(VOCABULARY, FEATURES),
        characters=nn.GRU(FEATURES, HIDDEN // 2, batch_first=True, bidirectional=True),
        words=nn.LSTM(HIDDEN, 4, batch_first=True),
    )
    item = Input("ids", ("batch", "words", "characters"), "int64")
    streams = Session(exported(tmp_path / "model.onnx", model, item), "cpu").streams()
    assert streams._model.state_names == ("words.h", "words.c")
    row = np.random.default_rng(0).integers(0, VOCABULARY, (STEPS, 7))
    parts = [streams.push({"a": chunk, "b": chunk})["b"]["output"] for chunk in np.split(row, [1, 2, 9])]
    with torch.no_grad():
        expected = model(torch.tensor(row[None]))[0].numpy()
    np.testing.assert_allclose(np.concatenate(parts), expected, rtol=1e-6, atol=1e-6)


def attends(self: Any, x: Tensor) -> Tensor:
    y = self.rnn(x)[0]
    return torch.softmax(y @ y.mT, -1) @ y


def sequence_to_sequence(self: Any, x: Tensor) -> Tensor:
    return self.decoder(x, self.rnn(x)[1])[0]


def reversed_rows(self: Any, x: Tensor, lengths: Tensor) -> Tensor:
    steps = torch.arange(x.size(1))[None, :]
    order = torch.where(steps < lengths[:, None], lengths[:, None] - 1 - steps, steps)
    return self.rnn(x.gather(1, order[..., None].expand_as(x)))[0]


def dilated(self: Any, x: Tensor) -> Tensor:
    """Causal, and nothing of it shows before step 17."""
    return self.rnn(self.conv(nn.functional.pad(x.mT, (16, 0))).mT)[0]


REFUSED: dict[str, tuple[Callable[[], Model], tuple[Input, ...], str]] = {
    "bidirectional": (
        lambda: Model(
            packed_tagger,
            rnn=nn.LSTM(FEATURES, HIDDEN, batch_first=True, bidirectional=True),
            head=nn.Linear(2 * HIDDEN, 2),
            embedding=nn.Embedding(VOCABULARY, FEATURES),
        ),
        (IDS, LENGTHS),
        r"layer 'rnn' \(LSTM\) cannot stream: it is bidirectional, so it reads the sequence from its end too",
    ),
    "pooled": (
        lambda: Model(lambda self, x: self.rnn(x)[0].mean(1), **layers(nn.GRU, FEATURES)),
        (X,),
        "its ReduceMean 'mean' pools over the steps",
    ),
    "convolved": (
        lambda: Model(
            lambda self, x: self.rnn(self.conv(x.mT).mT)[0], conv=nn.Conv1d(3, 3, 3, padding=1), **layers(nn.GRU, 3)
        ),
        (X,),
        r"layer 'conv' \(Conv\) convolves over the steps without a state",
    ),
    "dilated": (
        lambda: Model(dilated, conv=nn.Conv1d(3, 3, 2, dilation=16), **layers(nn.GRU, 3)),
        (X,),
        "pads the ends of a run|convolves over the steps without a state",
    ),
    "attends": (lambda: Model(attends, **layers(nn.GRU, FEATURES)), (X,), "its MatMul 'matmul' attends over the steps"),
    "decodes": (
        lambda: Model(
            sequence_to_sequence,
            rnn=nn.GRU(FEATURES, HIDDEN, batch_first=True),
            decoder=nn.GRU(FEATURES, HIDDEN, batch_first=True),
        ),
        (X,),
        r"layer 'decoder' \(GRU\) cannot stream: it starts from what layer 'rnn' \(GRU\) gives at the end",
    ),
    "reverses": (lambda: Model(reversed_rows, **layers(nn.GRU, FEATURES)), (X, LENGTHS), "output 'output' differs by"),
    "positions": (
        lambda: Model(
            lambda self, x: self.rnn(x + self.positions(torch.arange(x.size(1))))[0],
            positions=nn.Embedding(1000, FEATURES),
            **layers(nn.GRU, FEATURES),
        ),
        (X,),
        r"its Add 'add_5' gives other values where a chunk begins or ends",
    ),
    "fixed": (
        lambda: Model(tagger, **layers(nn.GRU, FEATURES)),
        (Input("x", ("batch", 8, FEATURES)),),
        "the file fixes its sequence axis to 8 steps",
    ),
    "single": (
        lambda: Model(tagger, **layers(nn.GRU, FEATURES)),
        (Input("x", (1, "seq", FEATURES)),),
        "the file fixes its batch axis to 1",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_stream_says_which_layer_and_why(name, tmp_path) -> None:
    make, inputs, said = REFUSED[name]
    session = Session(exported(tmp_path / "model.onnx", make(), *inputs), "cpu")
    with pytest.raises(CannotStreamError, match=said):
        session.stream()


def test_an_int8_layer_has_one_scale_for_a_run(tmp_path) -> None:
    torch.manual_seed(0)
    model = Model(tagger, rnn=nn.LSTM(FEATURES, 32, batch_first=True), head=nn.Linear(32, 2))
    export(model.eval(), tmp_path / "model.onnx", inputs=[X], precision="int8-dynamic-unproven")
    with pytest.raises(
        CannotStreamError, match=r"layer 'rnn' \(DynamicQuantizeLSTM\) computes in int8, with one scale"
    ):
        Session(tmp_path / "model.onnx", "cpu").stream()


def test_an_input_without_steps_goes_with_every_chunk(tmp_path) -> None:
    model = Model(lambda self, x, speaker: self.rnn(x + speaker[:, None])[0], rnn=nn.GRU(3, HIDDEN, batch_first=True))
    path = exported(tmp_path / "model.onnx", model, X, Input("speaker", ("batch", FEATURES)))
    stream, row, speaker = Session(path, "cpu").stream(), data(X), np.ones(FEATURES, np.float32)
    parts = [stream.push({"x": chunk, "speaker": speaker})["output"] for chunk in (row[:4], row[4:])]
    with torch.no_grad():
        expected = model(torch.tensor(row[None]), torch.tensor(speaker[None]))[0].numpy()
    np.testing.assert_allclose(np.concatenate(parts), expected, rtol=1e-6, atol=1e-6)
    with pytest.raises(InputSizeError, match="input 'speaker'"):
        stream.push({"x": row, "speaker": speaker[:2]})
