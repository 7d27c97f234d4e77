"""Which declared input is which argument of a module's forward: by name, by position, or refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import pytest
from keras import layers
from support.checks import run_file
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from seqport.exporters import Input, InputsError, export

QUESTION = np.random.default_rng(0).standard_normal((2, 4, 3)).astype(np.float32)
FEED = {"question": QUESTION, "answer": QUESTION[::-1].copy()}


def _two(question: Any, answer: Any) -> Any:
    return question.relu() - answer.tanh()


class Two(nn.Module):
    """Tells its inputs apart."""

    def forward(self, question: Tensor, answer: Tensor) -> Tensor:
        return _two(question, answer)


class Pair(NamedTuple):
    question: Any
    answer: Any


@dataclass
class Record:
    question: Any
    answer: Any


class OfAPair(nn.Module):
    def forward(self, batch: Pair) -> Tensor:
        question, answer = batch
        return _two(question, answer)


class OfARecord(nn.Module):
    def forward(self, batch: Record) -> Tensor:
        return _two(batch.question, batch.answer)


def _hidden(function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return call


class Decorated(nn.Module):
    @_hidden
    def forward(self, question: Tensor, answer: Tensor) -> Tensor:
        return _two(question, answer)


class OneAndMore(nn.Module):
    def forward(self, question: Tensor, *more: Tensor) -> Tensor:
        return _two(question, more[0])


class Defaults(nn.Module):
    def forward(self, question: Tensor, state: Tensor | None = None, answer: Tensor | None = None) -> Tensor:
        assert answer is not None
        return question.relu() - answer.tanh() if state is None else state


class WithState(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.recurrent = nn.LSTM(3, 2, batch_first=True)

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor]) -> Any:
        return self.recurrent(x, state)[0]


class Packed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.recurrent = nn.GRU(3, 2, batch_first=True)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        return self.recurrent(pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False))[1]


class Subclassed(keras.Model):
    def call(self, question: Any, answer: Any) -> Any:
        return keras.ops.subtract(keras.ops.relu(question), keras.ops.tanh(answer))


def _named(*names: str) -> list[Input]:
    return [Input(name, ("batch", "seq", 3)) for name in names]


STATES = Input("h_0", (1, "batch", 2)), Input("c_0", (1, "batch", 2))
MODULES = [Two, OfAPair, OfARecord, Decorated, OneAndMore, Subclassed]


@pytest.mark.parametrize("module", [*MODULES, Defaults])
def test_all_own_names_in_any_order(module: Callable[[], Any], tmp_path: Path) -> None:
    # What goes into *more has no name, and so any.
    found = run_file(export(module(), tmp_path / "m.onnx", _named("answer", "question")).path, FEED)
    want = np.maximum(FEED["question"], 0) - np.tanh(FEED["answer"])
    np.testing.assert_allclose(next(iter(found.values())), want, atol=1e-6)


@pytest.mark.parametrize("module", MODULES)
def test_none_of_them_go_by_position(module: Callable[[], Any], tmp_path: Path) -> None:
    feed = {"p": FEED["question"], "q": FEED["answer"]}
    found = run_file(export(module(), tmp_path / "m.onnx", _named("p", "q")).path, feed)
    np.testing.assert_allclose(next(iter(found.values())), np.maximum(feed["p"], 0) - np.tanh(feed["q"]), atol=1e-6)


@pytest.mark.parametrize("module", [Two, OfAPair, OfARecord, Decorated, Subclassed])
@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("answer", "ask"), r"takes question, answer, and no ask: call .*\. 'answer' stands where it takes 'question'"),
        (
            ("ask", "question"),
            r"takes question, answer, and no ask: call .*\. 'question' stands where it takes 'answer'",
        ),
        (("question", "ask"), r"inputs names question, ask; the model takes question, answer, and no ask: call"),
    ],
)
def test_a_partial_match_is_refused(
    module: Callable[[], Any], names: tuple[str, str], message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputsError, match=message):
        export(module(), tmp_path / "m.onnx", _named(*names))
    assert not list(tmp_path.iterdir())


def test_a_name_of_an_argument_that_is_left_out(tmp_path: Path) -> None:
    with pytest.raises(
        InputsError, match=r"takes question, state, answer, and no ask: .* 'answer' stands where it takes 'state'"
    ):
        export(Defaults(), tmp_path / "m.onnx", _named("ask", "answer"))


def test_a_parameter_whose_name_says_nothing(tmp_path: Path) -> None:
    for names in ("frames", "lengths"), ("x", "counts"):
        inputs = [Input(names[0], ("batch", "seq", 3)), Input(names[1], ("batch",), "int64")]
        assert export(Packed(), tmp_path / "m.onnx", inputs).path.exists()
    with pytest.raises(InputsError, match=r"takes x, lengths, and no frames: .* 'x' stands where it takes 'lengths'"):
        export(Packed(), tmp_path / "m.onnx", [Input("frames", ("batch", "seq", 3)), Input("x", ("batch",), "int64")])


def test_a_tuple_has_no_name_of_its_own(tmp_path: Path) -> None:
    for inputs in ([*_named("x"), *STATES], [*_named("x"), STATES], [*_named("y"), STATES]):
        assert export(WithState(), tmp_path / "m.onnx", inputs).path.exists()


def test_a_tuple_in_the_place_of_another_argument(tmp_path: Path) -> None:
    with pytest.raises(InputsError, match=r"the model takes x, state: .* 'x' stands where it takes 'state'"):
        export(WithState(), tmp_path / "m.onnx", [STATES, *_named("x")])


def test_another_arguments_name_within_a_tuple(tmp_path: Path) -> None:
    with pytest.raises(InputsError, match=r"holds 'x' within a tuple, .* forward takes an argument 'x' of its own"):
        export(WithState(), tmp_path / "m.onnx", [*_named("y"), (STATES[0], Input("x", (1, "batch", 2)))])


@pytest.mark.parametrize("structure", [dict, Pair, Record])
def test_another_keys_name(structure: Callable[..., Any], tmp_path: Path) -> None:
    question, answer = _named("question", "answer")
    with pytest.raises(InputsError, match="the Input 'answer' where the model takes 'question', and 'answer' is anoth"):
        export(OfARecord(), tmp_path / "m.onnx", [structure(question=answer, answer=question)])


@pytest.mark.parametrize(
    "inputs",
    [
        (Input("n", ("batch",), "int64"), Input("frames", ("batch", "seq", 3))),
        (Input("lengths", ("batch", "seq", 3)), Input("x", ("batch",), "int64")),
    ],
)
def test_inputs_of_another_rank_are_named_as_swapped(inputs: tuple[Input, Input], tmp_path: Path) -> None:
    one, other = (repr(item.name) for item in inputs)
    with pytest.raises(InputsError, match=rf"inputs {one} \(.*\) and {other} \(.*\) are swapped: forward fails"):
        export(Packed(), tmp_path / "m.onnx", inputs)


def test_what_fails_either_way_is_no_swap(tmp_path: Path) -> None:
    with pytest.raises(Exception, match=r"(?s)^(?!.*swapped)"):
        export(Packed(), tmp_path / "m.onnx", [Input("x", ("batch", "seq", 5)), Input("lengths", ("batch",), "int64")])


def test_what_reaches_a_keras_models_sequences(tmp_path: Path) -> None:
    x = keras.Input((None, 3), name="x")
    model = keras.Model(x, layers.GRU(2)(x))
    assert export(model, tmp_path / "m.onnx", _named("frames")).path.exists()
