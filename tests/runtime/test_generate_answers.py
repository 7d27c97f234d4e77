"""What a network's answers mean where tokens are drawn: logits, probabilities, scores, or nothing that can be drawn."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from seqport.exporters import Input, export
from seqport.runtime import ArtifactError, InputValueError, Session
from seqport.runtime.asked import gives_probabilities
from seqport.runtime.feedback import Feedback
from seqport.runtime.sampling import Sampler, Sampling, likeliest, numbers

TOKENS = 12
Say = Callable[[torch.Tensor], torch.Tensor]


class Writer(torch.nn.Module):
    def __init__(self, say: Say) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.e, self.r = torch.nn.Embedding(TOKENS, 4), torch.nn.GRU(4, 6, batch_first=True)
        self.o, self.say = torch.nn.Linear(6, TOKENS), say

    def forward(self, ids: torch.Tensor, lengths: torch.Tensor, h_0: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        packed = pack_padded_sequence(self.e(ids), lengths.cpu(), batch_first=True, enforce_sorted=False)
        y, h = self.r(packed, h_0)
        y = pad_packed_sequence(y, batch_first=True, total_length=ids.size(1))[0]
        return self.say(6 * self.o(y)), h


def opened(say: Say, folder: Path, seq: str | int = "seq") -> tuple[Writer, Session]:
    inputs = [Input("ids", ("batch", seq), "int64"), Input("lengths", ("batch",), "int64")]
    inputs.append(Input("h_0", (1, "batch", 6)))
    net = Writer(say).eval()
    return net, Session(export(net, folder / "w.onnx", inputs=inputs, outputs=["p", "h_T"]).path, "cpu")


def answer(net: Writer, token: int) -> np.ndarray:
    with torch.no_grad():
        return net(torch.tensor([[token]]), torch.tensor([1]), torch.zeros(1, 1, 6))[0][0, 0].double().numpy()


def softmax(logits: np.ndarray) -> np.ndarray:
    e = np.exp(logits - logits.max())
    return e / e.sum()


LOGITS: dict[str, Say] = {
    "linear": lambda o: o,
    "logarithms": lambda o: o.log_softmax(-1),
    "logarithms of smoothed ones": lambda o: torch.log(o.softmax(-1) + 1e-6),
    "banned": lambda o: o.masked_fill(torch.arange(TOKENS) == 0, -torch.inf),
    "gated": lambda o: o * o.sigmoid(),
    "capped": lambda o: 20 * torch.sigmoid(o / 10) - 10,
}
AS_THEY_ARE: dict[str, Say] = {
    "softmax": lambda o: o.softmax(-1),
    "banned": lambda o: o.softmax(-1) * (torch.arange(TOKENS) > 0),
    "smoothed": lambda o: o.softmax(-1) * 0.9 + 0.01,
    "scores": lambda o: o.sigmoid(),
    "banned by a matrix": lambda o: o.softmax(-1) @ torch.diag((torch.arange(TOKENS) > 0).float()),
    "two heads": lambda o: torch.stack([o.softmax(-1), (-o).softmax(-1)], -1) @ torch.tensor([0.6, 0.2]),
    "percent": lambda o: o.softmax(-1) * 100,
}


@pytest.mark.parametrize("kind", [*(f"logits: {k}" for k in LOGITS), *(f"as they are: {k}" for k in AS_THEY_ARE)])
def test_tokens_are_drawn_as_the_model_says(kind: str, tmp_path: Path) -> None:
    what, _, name = kind.partition(": ")
    net, session = opened((LOGITS if what == "logits" else AS_THEY_ARE)[name], tmp_path)
    said = answer(net, 3)
    expected = softmax(said) if what == "logits" else said / said.sum()
    drawn = np.concatenate(session.generate([3] * 3000, max_steps=1, temperature=1.0, seed=1))
    np.testing.assert_allclose(np.bincount(drawn, minlength=TOKENS) / len(drawn), expected, atol=0.04)
    assert expected[0] > 0 or not (drawn == 0).any()


def test_what_is_neither_is_refused(tmp_path: Path) -> None:
    _, session = opened(lambda o: o.softmax(-1) - 0.05, tmp_path)
    with pytest.raises(ArtifactError, match=r"nothing can be drawn from 'p': its answers are squashed, so they are no"):
        session.generate([3, 3], max_steps=1, temperature=1.0)


@pytest.mark.parametrize(
    ("said", "meaning"),
    [([0.2, 0.8], True), ([0.0, 0.5], True), ([-1.0, 3.0], False), ([0.5, 3.0], "nowhere negative, and 0.5 to 3")],
)
def test_without_a_graph_values_tell(artifact, said: list[float], meaning: bool | str) -> None:
    feedback = Feedback.of(Session(artifact("gru", vocab_size=5, states=True), "cpu").description)

    def step(feed):
        return {"output": np.broadcast_to(said, (len(feed["ids"]), 1, 2)), "h_T": feed["h_0"]}

    if isinstance(meaning, bool):
        assert gives_probabilities(step, feedback, None) is meaning
        return
    with pytest.raises(ArtifactError, match=meaning):
        gives_probabilities(step, feedback, None)


@pytest.mark.parametrize("squashed", [None, False])
@pytest.mark.parametrize("lost", [np.nan, np.inf])
@pytest.mark.parametrize(
    ("said", "meaning"), [([-1.0, 3.0], False), ([-np.inf, 3.0], False), ([0.2, 0.8], True), ([0.25, 3.0], None)]
)
def test_answers_that_are_no_numbers_say_nothing(
    artifact, said: list[float], meaning: bool | None, lost: float, squashed: bool | None
) -> None:
    feedback = Feedback.of(Session(artifact("gru", vocab_size=5, states=True), "cpu").description)

    def step(feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        answers = np.broadcast_to(said, (len(feed["ids"]), 1, 2)).copy()
        answers[np.abs(feed["h_0"]).max((0, 2)) > 2, 0, 1] = lost  # from large states
        return {"output": answers, "h_T": feed["h_0"]}

    if meaning is None and squashed is None:
        with pytest.raises(ArtifactError, match=r"nowhere negative, and 0\.25 to 3 are no probabilities"):
            gives_probabilities(step, feedback, squashed)
        return
    assert gives_probabilities(step, feedback, squashed) is bool(meaning)


@pytest.mark.parametrize("said", [[np.nan, 1.0], [np.inf, 1.0], [-np.inf, -np.inf]])
def test_nothing_is_drawn_where_no_answer_is_of_numbers(artifact, said: list[float]) -> None:
    feedback = Feedback.of(Session(artifact("gru", vocab_size=5, states=True), "cpu").description)

    def step(feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {"output": np.broadcast_to(said, (len(feed["ids"]), 1, 2)), "h_T": feed["h_0"]}

    with pytest.raises(ArtifactError, match="from zero, small and large states its answers are NaN or infinite"):
        gives_probabilities(step, feedback, None)


def test_rows_that_change_each_other_never_share_a_step(tmp_path: Path) -> None:
    _, session = opened(lambda o: o.softmax(0), tmp_path)
    first = list(range(TOKENS))
    together = session.generate(first, max_steps=5, temperature=1.0, seed=1)
    for row, token in enumerate(first):
        (alone,) = session.generate([token], max_steps=5, temperature=1.0, seed=[(1, row)])
        np.testing.assert_array_equal(together[row], alone)


@pytest.mark.parametrize(
    ("first", "said"), [(-1, "-1 for row 0"), ([0, 12], "12 for row 1"), ([3, -2], "-2 for row 1")]
)
def test_tokens_beyond_the_table_do_not_begin_a_row(first: int | list[int], said: str, tmp_path: Path) -> None:
    _, session = opened(LOGITS["linear"], tmp_path)
    with pytest.raises(InputValueError, match=f"first holds the token {said}, expected 0 to 11"):
        session.generate(first, max_steps=2)


def test_a_table_may_begin_below_zero(tmp_path: Path) -> None:
    class Shifted(Writer):
        def forward(self, ids, lengths, h_0):
            return super().forward(ids + 1, lengths, h_0)

    inputs = [Input("ids", ("batch", "seq"), "int64"), Input("lengths", ("batch",), "int64")]
    inputs.append(Input("h_0", (1, "batch", 6)))
    model = Shifted(LOGITS["linear"]).eval()
    session = Session(export(model, tmp_path / "w.onnx", inputs, ["p", "h_T"]).path, "cpu")
    assert len(session.generate(-1, max_steps=1)[0]) == 1
    with pytest.raises(InputValueError, match="first holds the token -2 for row 0, expected -1 to 10"):
        session.generate(-2, max_steps=1)


def test_nan_is_no_token(tmp_path: Path) -> None:
    _, session = opened(LOGITS["linear"], tmp_path)
    states = {"h_0": np.zeros((1, 2, 6), np.float32)}
    states["h_0"][0, 1, 2] = np.nan
    for temperature in (0.0, 1.0):
        with pytest.raises(InputValueError, match="row 1: the model answers nan"):
            session.generate([1, 2], max_steps=3, states=states, temperature=temperature)


def test_a_fixed_sequence_axis_is_padded_and_the_first_step_answers(tmp_path: Path) -> None:
    _, session = opened(LOGITS["linear"], tmp_path)
    _, fixed = opened(LOGITS["linear"], tmp_path, seq=7)
    for one, other in zip(
        session.generate([1, 5, 9], max_steps=6), fixed.generate([1, 5, 9], max_steps=6), strict=True
    ):
        np.testing.assert_array_equal(one, other)


def test_the_likeliest_of_infinities() -> None:
    rows = np.array([4, 7])
    np.testing.assert_array_equal(likeliest(np.array([[-np.inf, 1.0], [np.inf, 0.0]]), rows), [1, 0])
    for wrong in ([np.inf, np.inf], [-np.inf, -np.inf], [np.nan, 1.0]):
        with pytest.raises(InputValueError, match="row 7: the model answers"):
            likeliest(np.array([[0.0, 1.0], wrong]), rows)
    with pytest.raises(InputValueError, match="row 7: the model answers nan"):
        numbers(np.array([[0.0, 1.0], [0.0, np.nan]]), rows)


def test_a_negative_probability_is_none() -> None:
    sampler = Sampler(Sampling(1.0, seed=1), 8, probabilities=True)
    with pytest.raises(InputValueError, match=r"row 7: the model answers -0\.1, which is no probability"):
        sampler(np.array([[0.5, 0.5], [1.1, -0.1]]), np.array([4, 7]))
