"""What the proof of streams must not be taken in by: constants that set in late, flags, masks, rows, states, inputs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from seqport.exporters import Input, export
from seqport.runtime import CannotStreamError, InputNameError, InputValueError, Session

X = [Input("x", ("batch", "seq", 4)), Input("lengths", ("batch",), "int64")]
After = Callable[..., torch.Tensor]


class Net(torch.nn.Module):
    def __init__(self, after: After) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.gru, self.head = torch.nn.GRU(4, 6, batch_first=True), torch.nn.Linear(6, 2)
        self.feat, self.after, self.table = torch.nn.Linear(5, 6), after, torch.nn.Embedding(20_000, 2)

    def encode(
        self, x: torch.Tensor, lengths: torch.Tensor, h: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        y, h = self.gru(pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False), h)
        return pad_packed_sequence(y, batch_first=True, total_length=x.size(1))[0], h  # type: ignore[return-value]

    def forward(self, x: torch.Tensor, lengths: torch.Tensor, *more: torch.Tensor) -> torch.Tensor:
        return self.after(self, x, lengths, *more)


def opened(after: After, folder: Path, *extra: Input, outputs: tuple[str, ...] = ("o",)) -> tuple[Net, Session]:
    net = Net(after).eval()
    path = export(net, folder / "net.onnx", inputs=[*X, *extra], outputs=list(outputs)).path
    return net, Session(path, "cpu")


def steps(m: Net, x: torch.Tensor, n: torch.Tensor) -> torch.Tensor:
    return m.head(m.encode(x, n)[0])


def last(m: Net, x: torch.Tensor, n: torch.Tensor) -> torch.Tensor:
    return m.head(m.encode(x, n)[1][0])


REFUSED: dict[str, After] = {
    "lengths clipped": lambda m, x, n: m.head(m.encode(x[:, :20], n.clamp(max=20))[1][0]),
    "lengths clipped far away": lambda m, x, n: m.head(m.encode(x[:, :3000], n.clamp(max=3000))[1][0]),
    "long sequences": lambda m, x, n: last(m, x, n) * (n > 300).float()[:, None],
    "long sequences, by a product": lambda m, x, n: last(m, x, n) * torch.where(n * 0.02 > 8, 0.5, 1.0)[:, None],
    "a window of lengths": lambda m, x, n: last(m, x, n) * ((n > 30) & (n < 40)).float()[:, None],
    "every seventh length": lambda m, x, n: last(m, x, n) * (n % 7 == 0).float()[:, None],
    "blocks of steps": lambda m, x, n: last(m, x, n) * (n // 300)[:, None],
    "blocks of steps, in floats": lambda m, x, n: last(m, x, n) * torch.floor(n / 300.0)[:, None],
    "seconds, cut to whole ones": lambda m, x, n: last(m, x, n) * (n * 0.01).long()[:, None],
    "a logarithm of lengths": lambda m, x, n: last(m, x, n) * (torch.log(n.float()) > 6).float()[:, None],
    "ones that are summed": lambda m, x, n: steps(m, x, n) * (torch.ones_like(x[..., :1]).cumsum(1) < 300),
    "positions": lambda m, x, n: steps(m, x, n) * (torch.arange(x.size(1)) < 300)[:, None],
    "positions in a table": lambda m, x, n: (
        steps(m, x, n) * (torch.arange(600)[torch.arange(x.size(1))] < 300)[:, None]
    ),
    "steps with a value": lambda m, x, n: steps(m, x, n) * ((x > 0).cumsum(1)[..., :1] < 300),
    "any flag": lambda m, x, n: (steps(m, x, n) > 2).any(1),
    "all flags": lambda m, x, n: (steps(m, x, n) > -2).all(1),
    "numbers made of flags": lambda m, x, n: torch.where((steps(m, x, n) > 1.5).any(1), 1.0, 0.0),
    "flags of the inputs": lambda m, x, n: last(m, x, n) * (x > 3).any(-1).any(-1).float()[:, None],
    "a class of a mean": lambda m, x, n: m.head(m.encode(x, n)[0].mean(1)).argmax(-1),
    "small outputs": lambda m, x, n: m.head(m.encode(x, n)[0].mean(1)) * 1e-6,
    "a limiter of peaks that nobody drew": lambda m, x, n: m.head(
        m.encode(x / x.abs().amax((1, 2), keepdim=True).clamp(min=200.0) * 200, n)[0]
    ),
    "a gate of a mean that nobody drew": lambda m, x, n: (
        steps(m, x, n) * (1 + torch.relu(x.mean((1, 2)) - 40.0))[:, None, None]
    ),
    "a first step that nobody drew": lambda m, x, n: m.head(
        m.encode(x - x[:, :1] * (x[:, :1].abs() > 500).float(), n)[0]
    ),
    "a marker": lambda m, x, n: steps(m, x, n) * (1 + (x == 7.0).any(1).any(1).float())[:, None, None],
    "a marker of loud ones": lambda m, x, n: steps(m, x, n) * (1 + (x > 500).any(1).any(1).float())[:, None, None],
    "a peak of the whole": lambda m, x, n: steps(m, x, n) / torch.clamp(x.abs().max() / 8, min=1.0),
}
STREAMED: dict[str, After] = {
    "each step": steps,
    "the last step": last,
    "clips and norms of each step": lambda m, x, n: m.head(
        m.encode(x.clamp(-200, 200) / x.norm(dim=-1, keepdim=True).clamp(min=1e-6), n)[0]
    ),
    "loud steps": lambda m, x, n: steps(m, x, n) * (1 + (x.abs() > 50).any(-1, keepdim=True).float()),
    "flags of each step": lambda m, x, n: steps(m, x, n) > 0.6,
    "a flag of the last step": lambda m, x, n: (last(m, x, n) > 0.5).any(-1),
    "classes of each step": lambda m, x, n: steps(m, x, n).argmax(-1),
    "small": lambda m, x, n: steps(m, x, n) * 1e-6,
    "audio": lambda m, x, n: m.head(m.encode(x.reshape(x.size(0), x.size(1), -1) / 32768, n)[0]),
    "audio, times": lambda m, x, n: m.head(m.encode(x.reshape(x.size(0), x.size(1), -1) * 32768, n)[0]),
    "clipped far away": lambda m, x, n: m.head(m.encode(x.reshape(x.size(0), x.size(1), -1).clamp(-1e4, 1e4), n)[0]),
    "clipped, repeated": lambda m, x, n: m.head(m.encode(x[:, :, :1].expand(-1, -1, 4).clamp(-1e4, 1e4), n)[0]),
    "clipped parts": lambda m, x, n: m.head(m.encode(x[:, : x.size(1)].clamp(-1e4, 1e4), n)[0]),
    "clipped and masked": lambda m, x, n: (steps(m, x, n) * (torch.arange(x.size(1)) < n[:, None])[..., None]).clamp(
        -1e4, 1e4
    ),
    "filled with a large number": lambda m, x, n: steps(m, x, n).masked_fill(x[..., :2] > 3, -1e9),
    "the last step, over the lengths": lambda m, x, n: last(m, x, n).clamp(-1e4, 1e4),
    "smoothed": lambda m, x, n: steps(m, x, n).softmax(-1) * 0.9 + 0.1 / 20_000,
    "ids with a large table": lambda m, x, n: (
        steps(m, x, n) + m.table((x[..., 0].abs() * 9000).long().clamp(max=19_999))
    ),
    "lengths over a large number": lambda m, x, n: last(m, x, n) + 0.0 * (n.float() / 32768)[:, None],
    "clipped values": lambda m, x, n: m.head(m.encode(x.clamp(-2, 2), n)[0]),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_a_chunk_cannot_know_is_refused(kind: str, tmp_path: Path) -> None:
    with pytest.raises(CannotStreamError):
        opened(REFUSED[kind], tmp_path)[1].stream()


@pytest.mark.parametrize("kind", STREAMED)
def test_what_a_chunk_knows_streams(kind: str, tmp_path: Path) -> None:
    net, session = opened(STREAMED[kind], tmp_path)
    row = np.random.default_rng(0).standard_normal((30, 4), np.float32)
    with torch.no_grad():
        expected = net(torch.from_numpy(row)[None], torch.tensor([30]))[0].numpy()
    stream = session.stream()
    parts = [stream.push(row[a:b])["o"] for a, b in ((0, 1), (1, 12), (12, 30))]
    found = parts[-1] if parts[-1].shape == expected.shape else np.concatenate(parts)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * np.abs(expected.astype(float)).max())


def test_a_threshold_that_hides_something_is_named(tmp_path: Path) -> None:
    _, session = opened(REFUSED["a limiter of peaks that nobody drew"], tmp_path)
    with pytest.raises(CannotStreamError, match=r"its ReduceMax '.*' pools over the steps.*; its Clip '.*' hides that"):
        session.stream()


def test_what_sets_in_too_late_is_refused_by_name(tmp_path: Path) -> None:
    late = lambda m, x, n: last(m, x, n) * (n > 50_000).float()[:, None]  # noqa: E731
    with pytest.raises(CannotStreamError, match=r"its Greater 'gt' sets in at 50000 steps, and a proof reaches twice"):
        opened(late, tmp_path)[1].stream()


def test_rows_that_change_each_other_stream_in_runs_of_their_own(tmp_path: Path) -> None:
    net, session = opened(lambda m, x, n: torch.softmax(steps(m, x, n), 0), tmp_path)
    streams, x = session.streams(), np.random.default_rng(0).standard_normal((2, 3, 4), np.float32)
    found = streams.push({0: x[0], 1: x[1]})
    for row in range(2):
        with torch.no_grad():
            expected = net(torch.from_numpy(x[row])[None], torch.tensor([3]))[0].numpy()
        np.testing.assert_allclose(found[row]["o"], expected, atol=1e-6)


def test_an_input_of_the_initial_state_comes_first_and_is_never_ignored(tmp_path: Path) -> None:
    def after(m: Net, x: torch.Tensor, n: torch.Tensor, feat: torch.Tensor) -> torch.Tensor:
        return m.head(m.encode(x, n, torch.tanh(m.feat(feat))[None])[0])

    net, session = opened(after, tmp_path, Input("feat", ("batch", 5)))
    random = np.random.default_rng(0)
    x, feat = random.standard_normal((9, 4), np.float32), random.standard_normal(5, np.float32)
    with torch.no_grad():
        expected = net(torch.from_numpy(x)[None], torch.tensor([9]), torch.from_numpy(feat)[None])[0].numpy()
    streams = session.streams()
    with pytest.raises(InputNameError, match="input 'feat' missing: it sets the initial state"):
        streams.push({0: x[:3]})
    streams.push({1: {"x": -x, "feat": -feat}})
    parts = [streams.push({0: {"x": x[:3], "feat": feat}})[0]["o"]]
    parts.append(streams.push({0: x[3:5], 1: x[3:5]})[0]["o"])  # left out, in a run with another stream
    parts.append(streams.push({0: x[5:6], 1: x[5:6]})[0]["o"])
    with pytest.raises(InputValueError, match="'feat' came with other values than with the first steps"):
        streams.push({0: {"x": x[6:], "feat": feat + 1}})
    streams.restore(2, streams.save(0))
    for stream in (0, 2):
        rest = streams.push({stream: {"x": x[6:], "feat": feat}})[stream]["o"]
        np.testing.assert_allclose(np.concatenate([*parts, rest]), expected, atol=1e-6)


class Policy(torch.nn.Module):
    """Forgets its state where an episode begins."""

    def __init__(self, *, keeps: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.lstm, self.keeps = torch.nn.LSTM(4, 8, batch_first=True), keeps

    def forward(self, obs: torch.Tensor, h: torch.Tensor, c: torch.Tensor, flag: torch.Tensor) -> object:
        keep = (flag if self.keeps else 1 - flag).view(1, -1, 1)
        y, (h, c) = self.lstm(obs, (h * keep, c * keep))
        return y, h, c


@pytest.mark.parametrize("keeps", [True, False])
def test_what_the_model_does_to_its_states_it_does_at_each_chunk(keeps: bool, tmp_path: Path) -> None:
    states = [Input(name, (1, "batch", 8)) for name in "hc"]
    inputs = [Input("obs", ("batch", "seq", 4)), *states, Input("flag", ("batch",))]
    path = export(Policy(keeps=keeps).eval(), tmp_path / "p.onnx", inputs=inputs, outputs=["y", "h1", "c1"]).path
    session, x = Session(path, "cpu"), np.random.default_rng(0).standard_normal((9, 4), np.float32)
    stream = session.stream()
    assert set(stream._model.state_names) == {"h", "c"}
    carried = {"h": np.zeros((1, 8), np.float32), "c": np.zeros((1, 8), np.float32)}
    for start, end, flag in ((0, 3, 1.0), (3, 5, 0.0), (5, 6, 0.5), (6, 9, 1.0)):
        if start == 6:  # replaced by the user
            carried = {name: value + 1 for name, value in carried.items()}
        given = carried if start == 6 else {}
        found = stream.push({"obs": x[start:end], "flag": np.float32(flag), **given})
        feed = {
            "obs": x[None, start:end],
            "flag": np.array([flag], "f4"),
            **{n: v[:, None] for n, v in carried.items()},
        }
        expected = session.run(feed)
        np.testing.assert_allclose(found["y"], expected["y"][0], atol=1e-6)
        carried = {"h": found["h1"], "c": found["c1"]}


def test_a_state_that_does_not_come_back_as_it_went_is_named(tmp_path: Path) -> None:
    class Leaky(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gru = torch.nn.GRU(4, 8, batch_first=True)

        def forward(self, x: torch.Tensor, h: torch.Tensor) -> object:
            y, h = self.gru(x, h * 0.5 + 0.1)
            return y, h

    inputs = [Input("x", ("batch", "seq", 4)), Input("h", (1, "batch", 8))]
    session = Session(export(Leaky().eval(), tmp_path / "l.onnx", inputs=inputs, outputs=["y", "h1"]).path, "cpu")
    if not session.description.states:
        pytest.skip("the export takes it for no state")
    with pytest.raises(CannotStreamError, match=r"'h'|layer 'gru'"):
        session.stream()


@pytest.mark.parametrize("kind", ["above one", "not one", "of its own"])
def test_steps_masked_by_any_predicate_are_right_or_refused(kind: str, tmp_path: Path) -> None:
    import keras
    from keras import layers, ops

    keras.utils.set_random_seed(0)
    ids = keras.Input((None,), dtype="int32", name="ids")
    masks = {"above one": lambda: ops.greater(ids, 1), "not one": lambda: ops.not_equal(ids, 1)}
    keep = keras.Input((None,), dtype="bool", name="keep")
    mask = keep if kind == "of its own" else masks[kind]()
    y = layers.GRU(3, return_sequences=True)(layers.Embedding(10, 4)(ids), mask=mask)
    model = keras.Model([ids, keep] if kind == "of its own" else ids, y)
    stream = Session(export(model, tmp_path / "k.onnx").path, "cpu").stream()
    x = np.array([5, 1, 7, 1, 0, 8, 1], np.int32)
    given = [x[None], (x > 1)[None]] if kind == "of its own" else x[None]
    expected, refused = np.asarray(model(given))[0], 0
    for t in range(len(x)):
        chunk = {"ids": x[t : t + 1], **({"keep": x[t : t + 1] > 1} if kind == "of its own" else {})}
        try:
            (found,) = stream.push(chunk).values()
        except InputValueError as error:
            assert "which the model masks" in str(error)
            refused += 1
            continue
        np.testing.assert_allclose(found[0], expected[t], atol=1e-6)
    assert 0 < refused < len(x)


class Masked(torch.nn.Module):
    """Counts its own steps: at least one of them."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.e, self.r = torch.nn.Embedding(12, 4), torch.nn.GRU(4, 6, batch_first=True)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        lengths = (ids > 0).sum(1).clamp(min=1)
        packed = torch.nn.utils.rnn.pack_padded_sequence(self.e(ids), lengths, batch_first=True, enforce_sorted=False)
        return self.r(packed)[1][0]


def test_counted_steps_that_are_at_least_one_stream(tmp_path: Path) -> None:
    net = Masked().eval()
    path = export(net, tmp_path / "m.onnx", [Input("ids", ("batch", "seq"), "int64")], ["h"]).path
    stream = Session(path, "cpu").stream()
    ids = np.random.default_rng(0).integers(2, 10, 30)
    found = [stream.push(ids[a:b])["h"] for a, b in ((0, 1), (1, 12), (12, 30))][-1]
    with torch.no_grad():
        np.testing.assert_allclose(found, net(torch.from_numpy(ids[None]))[0].numpy(), atol=1e-6)


class OfKind(torch.nn.Module):
    """Starts from a state that an id tells."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.kinds, self.r = torch.nn.Embedding(6, 6), torch.nn.GRU(4, 6, batch_first=True)

    def forward(self, x: torch.Tensor, kind: torch.Tensor) -> torch.Tensor:
        return self.r(x, self.kinds(kind)[None])[0]


def test_an_id_that_sets_the_initial_state_may_be_left_out_later(tmp_path: Path) -> None:
    net = OfKind().eval()
    inputs = [Input("x", ("batch", "seq", 4)), Input("kind", ("batch",), "int64")]
    stream = Session(export(net, tmp_path / "m.onnx", inputs, ["y"]).path, "cpu").stream()
    x = np.random.default_rng(0).standard_normal((9, 4), np.float32)
    first = stream.push({"x": x[:3], "kind": np.int64(3)})["y"]
    found = np.concatenate([first, stream.push({"x": x[3:]})["y"]])
    with torch.no_grad():
        np.testing.assert_allclose(found, net(torch.from_numpy(x[None]), torch.tensor([3]))[0].numpy(), atol=1e-6)
