"""Which input is what: the axes of rows and of steps, the lengths, the states; known of each model, or refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.torch_models import Wrapped
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from seqport.exporters import Input, export
from seqport.runtime import ArtifactError, Description, InputNameError, Session

X = Input("x", ("batch", "seq", 4))
TIME_FIRST = Input("x", ("t", "n", 4))
N = Input("lengths", ("batch",), "int64")
H = Input("h_0", (1, "batch", 6))


def _gru(**options: Any) -> nn.GRU:
    return nn.GRU(4, 6, **{"batch_first": True, **options})


def _packed(self: Any, x: Tensor, lengths: Tensor, h: Any = None) -> Any:
    packed = pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
    y, h = self.gru(packed, h)
    return pad_packed_sequence(y, batch_first=True, total_length=x.size(1))[0], h


def _described(path: Path, run: Callable[..., Any], inputs: tuple[Input, ...], **parts: nn.Module) -> Description:
    torch.manual_seed(0)
    return export(Wrapped(run, **{"gru": _gru(), **parts}).eval(), path / "m.onnx", inputs).description


AXES: dict[str, tuple[Callable[..., Any], Input, str | None, str | None]] = {
    "rows first": (lambda m, x: m.gru(x)[0], X, "batch", "seq"),
    "time first": (lambda m, x: m.time(x)[0], TIME_FIRST, "n", "t"),
    "names that say nothing": (lambda m, x: m.gru(x)[0], Input("x", ("n", "t", 4)), "n", "t"),
    "ids, time first": (lambda m, ids: m.time(m.table(ids))[0], Input("ids", ("t", "n"), "int64"), "n", "t"),
    "the last state alone": (lambda m, x: m.time(x)[1][0], TIME_FIRST, "n", "t"),
    "both ways": (lambda m, x: m.both(x)[0], TIME_FIRST, "n", "t"),
    "a row without an axis for rows": (lambda m, x: m.gru(x)[0], Input("x", ("seq", 4)), None, "seq"),
    "fixed rows": (lambda m, x: m.gru(x)[0], Input("x", (2, "seq", 4)), None, "seq"),
    "steps along the axis called batch": (lambda m, x: m.time(x)[0], X, None, "batch"),
    "rows told by no layer": (lambda m, x: m.attention(x, x, x)[0], TIME_FIRST, "n", "t"),
    "rows and steps alike": (lambda m, x: m.linear(x), X, "batch", "seq"),
    "no rows at all": (lambda m, x: torch.softmax(m.linear(x), 0).cumsum(1), X, None, None),
}


@pytest.mark.parametrize("name", AXES)
def test_the_axes_of_rows_and_steps(name: str, tmp_path: Path) -> None:
    run, item, batch, steps = AXES[name]
    parts = {"time": _gru(batch_first=False), "table": nn.Embedding(9, 4), "linear": nn.Linear(4, 3)}
    parts |= {"attention": nn.MultiheadAttention(4, 2), "both": _gru(batch_first=False, bidirectional=True)}
    found = _described(tmp_path, run, (item,), **parts)
    assert (found.batch_axis, found.steps_axis) == (batch, steps)


def _strided(self: Any, x: Tensor, lengths: Tensor) -> Tensor:
    y = self.conv(x.transpose(1, 2)).transpose(1, 2)
    packed = pack_padded_sequence(y, ((lengths - 3) // 2 + 1).cpu(), batch_first=True, enforce_sorted=False)
    return self.gru(packed)[1]


def _frames(self: Any, x: Tensor, frames: Tensor) -> Tensor:
    y = self.conv(x.transpose(1, 2)).transpose(1, 2)
    return self.gru(pack_padded_sequence(y, frames.cpu(), batch_first=True, enforce_sorted=False))[1]


def _words(self: Any, x: Tensor, lengths: Tensor) -> Tensor:
    rows, words, characters, features = x.shape
    _, h = self.characters(x.reshape(rows * words, characters, features))
    return _packed(self, h[0].reshape(rows, words, 4), lengths)[0]


def _fraction(self: Any, x: Tensor, fraction: Tensor) -> Any:
    return _packed(self, x, (fraction.sigmoid() * x.size(1)).round().long().clamp(min=1))


def _two(self: Any, x: Tensor, one: Tensor, other: Tensor) -> Tensor:
    return _packed(self, x, one)[1] + _packed(self, x, other)[1]


def _per_row(name: str, *more: int, dtype: str = "int64") -> Input:
    return Input(name, ("batch", *more), dtype)


FIXED = Input("x", ("batch", 10, 4))
LENGTHS: dict[str, tuple[Callable[..., Any], tuple[Input, ...], set[str]]] = {
    "lengths": (_packed, (X, N), {"lengths"}),
    "an axis of one behind them": (lambda m, x, n: _packed(m, x, n[:, 0]), (X, _per_row("n", 1)), {"n"}),
    "float lengths": (lambda m, x, n: _packed(m, x, n.long()), (X, _per_row("n", dtype="float32")), {"n"}),
    "a step less of each": (lambda m, x, n: _packed(m, x[:, :-1], n - 1)[1], (X, N), {"lengths"}),
    "one step more": (lambda m, x, n: _packed(m, torch.cat([x[:, :1], x], 1), n + 1)[1], (X, N), {"lengths"}),
    "half the steps": (_strided, (X, N), {"lengths"}),
    "words of characters": (_words, (Input("x", ("batch", "words", "letters", 4)), N), {"lengths"}),
    "fixed steps": (_packed, (FIXED, N), {"lengths"}),
    "residual": (lambda m, x, n: (_packed(m, x, n)[0][..., :4] + x).mean(1), (X, N), {"lengths"}),
    "padded steps": (lambda m, x, n: _packed(m, x, x.size(1) - n)[1], (X, _per_row("n_pad")), set()),
    "padded fixed steps": (lambda m, x, n: _packed(m, x, 10 - n)[1], (FIXED, _per_row("n_pad")), set()),
    "a first step": (lambda m, x, n: _packed(m, x.flip(1), x.size(1) - n)[1], (X, _per_row("start")), set()),
    "two samples a step": (lambda m, x, n: _packed(m, x, n // 2)[1], (X, _per_row("samples")), set()),
    "an index of the last step": (lambda m, x, n: _packed(m, x[:, :-1], n)[1], (X, _per_row("last")), set()),
    "frames of another axis": (_frames, (X, _per_row("frames")), set()),
    "a fraction": (_fraction, (X, _per_row("fraction", dtype="float32")), set()),
    "two on one axis": (_two, (X, _per_row("one"), _per_row("other")), set()),
}


@pytest.mark.parametrize("name", LENGTHS)
def test_what_counts_the_steps(name: str, tmp_path: Path) -> None:
    run, inputs, lengths = LENGTHS[name]
    parts = {"conv": nn.Conv1d(4, 4, 3, stride=2), "characters": nn.GRU(4, 4, batch_first=True)}
    found = _described(tmp_path, run, inputs, **parts)
    assert {s.lengths for s in found.sequences if s.lengths} == lengths
    assert {r.lengths for r in found.recurrent} - {None} <= (lengths or {"mask"})
    assert found.batch_axis == "batch"


def _joined(self: Any, x: Tensor, s: Tensor) -> Any:
    y, (h, c) = self.lstm(x, (s[..., :6].contiguous(), s[..., 6:].contiguous()))
    return {"y": y, "s_T": torch.cat([h, c], -1)}


def _joined_otherwise(self: Any, x: Tensor, s: Tensor) -> Any:
    y, (h, c) = self.lstm(x, (s[..., :6].contiguous(), s[..., 6:].contiguous()))
    return {"y": y, "s_T": torch.cat([c, h], -1)}


def _swapped(self: Any, x: Tensor, a: Tensor, b: Tensor) -> Any:
    y, a = self.gru(x, a)
    z, b = self.second(x, b)
    return {"y": y + z, "b_T": b, "a_T": a}


def _transposed(self: Any, x: Tensor, h: Tensor) -> Any:
    y, h = self.stacked(x, h.transpose(0, 1).contiguous())
    return {"y": y, "h_T": h.transpose(0, 1)}


def _reversed(self: Any, x: Tensor, h: Tensor) -> Any:
    y, h = self.stacked(x, h)
    return {"y": y, "h_T": h.flip(0)}


def _kept(self: Any, x: Tensor, h: Tensor, start: Tensor) -> Any:
    y, h = self.gru(x, h * (1 - start).view(1, -1, 1))
    return {"y": y, "h_T": h}


def _kept_by_the_first_step(self: Any, x: Tensor, done: Tensor, h: Tensor) -> Any:
    y, h = self.gru(x, torch.where(done[None, :, :1], torch.zeros_like(h), h))
    return {"y": y, "h_T": h}


def _kept_and_packed(self: Any, x: Tensor, lengths: Tensor, h: Tensor, start: Tensor) -> Any:
    y, h = _packed(self, x, lengths, h * (1 - start).view(1, -1, 1))
    return {"y": y, "h_T": h}


def _projected(self: Any, x: Tensor, h: Tensor, c: Tensor) -> Any:
    y, (h, c) = self.projected(x, (h, c))
    return {"y": y, "h_T": h, "c_T": c}


def _projected_and_kept(self: Any, x: Tensor, h: Tensor, c: Tensor, start: Tensor) -> Any:
    keep = (1 - start).view(1, -1, 1)
    return _projected(self, x, h * keep, c * keep)


def _cached(self: Any, x: Tensor, cache: Tensor) -> Any:
    z = torch.cat([cache, x], 1)
    return {"y": self.gru(self.conv(z.transpose(1, 2)).transpose(1, 2))[0], "cache_T": z[:, -2:]}


def _cached_twice(self: Any, x: Tensor, a: Tensor, b: Tensor) -> Any:
    first = torch.cat([a, x], 1)
    second = torch.cat([b, self.conv(first.transpose(1, 2)).transpose(1, 2).relu()], 1)
    y = self.conv(second.transpose(1, 2)).transpose(1, 2)
    return {"y": y, "b_T": second[:, -2:], "a_T": first[:, -2:]}


def _ids_before(self: Any, ids: Tensor, before: Tensor) -> Any:
    both = torch.cat([before, ids], 1)
    return {"y": self.gru(self.table(both))[0][:, 2:], "before_T": both[:, -2:]}


def _computed(self: Any, x: Tensor, feat: Tensor) -> Any:
    y, h = self.gru(x, torch.tanh(self.square(feat))[None])
    return {"y": y, "h_T": h[0]}


def _projected_at_the_start(self: Any, x: Tensor, feat: Tensor) -> Any:
    y, h = self.gru(x, self.square(feat)[None])
    return {"y": y, "h_T": h[0]}


def _context(self: Any, x: Tensor, h: Tensor) -> Any:
    y, h_T = self.gru(x + h[:, None, :4], h[None])
    return {"y": y, "h_T": h_T[0]}


def _features(self: Any, x: Tensor, feat: Tensor) -> Any:
    return {"y": self.gru(x + feat[:, None])[0], "last": x[:, -1]}


def _one_step(self: Any, x: Tensor, h: Tensor) -> Any:
    return {"h_T": self.cell(x, h)}


PER_ROW, STACKED = Input("feat", ("batch", 6)), Input("h", (2, "batch", 6))
START, DONE = Input("start", ("batch",)), Input("done", ("batch", "seq"), "bool")
SMALL, WIDE = Input("h", (1, "batch", 3)), Input("c", (1, "batch", 8))
A, B = Input("a", (1, "batch", 6)), Input("b", (1, "batch", 6))
CACHE = Input("cache", ("batch", 2, 4))
STATES: dict[str, tuple[Callable[..., Any], tuple[Input, ...], set[tuple[str, str]]]] = {
    "one": (lambda m, x, h: dict(zip(("y", "h_T"), m.gru(x, h), strict=True)), (X, H), {("h_0", "h_T")}),
    "of two directions": (
        lambda m, x, n, h: dict(zip(("y", "h_T"), _packed(m.both, x, n, h), strict=True)),
        (X, N, STACKED),
        {("h", "h_T")},
    ),
    "transposed": (_transposed, (X, Input("h", ("batch", 2, 6))), {("h", "h_T")}),
    "joined": (_joined, (X, Input("s", (1, "batch", 12))), {("s", "s_T")}),
    "given in another order": (_swapped, (X, A, B), {("a", "a_T"), ("b", "b_T")}),
    "reset": (_kept, (X, H, START), {("h_0", "h_T")}),
    "reset by the first step": (_kept_by_the_first_step, (X, DONE, H), {("h_0", "h_T")}),
    "reset of packed rows": (_kept_and_packed, (X, N, H, START), {("h_0", "h_T")}),
    "projected": (_projected, (X, SMALL, WIDE), {("h", "h_T"), ("c", "c_T")}),
    "projected and reset": (_projected_and_kept, (X, SMALL, WIDE, START), {("h", "h_T"), ("c", "c_T")}),
    "steps before a convolution": (_cached, (X, CACHE), {("cache", "cache_T")}),
    "steps before two": (
        _cached_twice,
        (X, Input("a", ("batch", 2, 4)), Input("b", ("batch", 2, 4))),
        {("a", "a_T"), ("b", "b_T")},
    ),
    "ids before": (
        _ids_before,
        (Input("ids", ("batch", "seq"), "int64"), Input("before", ("batch", 2), "int64")),
        {("before", "before_T")},
    ),
    "of one step": (_one_step, (Input("x", ("batch", 4)), Input("h", ("batch", 6))), {("h", "h_T")}),
    "halves swapped": (_joined_otherwise, (X, Input("s", (1, "batch", 12))), set()),
    "layers reversed": (_reversed, (X, STACKED), set()),
    "computed": (_computed, (X, PER_ROW), set()),
    "projected once": (_projected_at_the_start, (X, PER_ROW), set()),
    "read at every step too": (_context, (X, Input("h", ("batch", 6))), set()),
    "features of a row": (_features, (X, Input("feat", ("batch", 4))), set()),
}


class _Both(nn.Module):
    """A layer of both directions, where `_packed` looks for one."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = _gru(bidirectional=True)


@pytest.mark.parametrize("name", STATES)
def test_what_goes_back_in(name: str, tmp_path: Path) -> None:
    run, inputs, states = STATES[name]
    found = _described(
        tmp_path,
        run,
        inputs,
        second=_gru(),
        stacked=_gru(num_layers=2),
        both=_Both(),
        lstm=nn.LSTM(4, 6, batch_first=True),
        projected=nn.LSTM(4, 8, batch_first=True, proj_size=3),
        conv=nn.Conv1d(4, 4, 3),
        table=nn.Embedding(9, 4),
        square=nn.Linear(6, 6),
        cell=nn.GRUCell(4, 6),
    )
    assert {(state.input, state.output) for state in found.states} == states


def _session(path: Path, run: Callable[..., Any], inputs: tuple[Input, ...], **parts: nn.Module) -> tuple[Any, Session]:
    torch.manual_seed(0)
    model = Wrapped(run, **{"gru": _gru(), **parts}).eval()
    export(model, path / "m.onnx", inputs)
    return model, Session(path / "m.onnx", provider="cpu")


def _rows(*steps: int) -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [random.standard_normal((count, 4)).astype(np.float32) for count in steps]


def test_rows_of_a_time_first_model_do_not_become_steps(tmp_path: Path) -> None:
    model, session = _session(tmp_path, lambda m, x: m.gru(x)[0], (TIME_FIRST,), gru=_gru(batch_first=False))
    rows = _rows(5, 3, 5)
    for row, answer in zip(rows, session.predict(rows), strict=True):
        with torch.no_grad():
            want = model(torch.from_numpy(row)[:, None])[:, 0].numpy()
        np.testing.assert_allclose(answer["output"], want, atol=1e-5)


def test_rows_that_nobody_knows_are_not_batched(tmp_path: Path) -> None:
    _, session = _session(tmp_path, lambda m, x: m.gru(x)[0], (X,), gru=_gru(batch_first=False))
    message = r"no axis of 'x' \[batch, seq, 4\] was proven to hold rows that do not see each other: use run, or"
    with pytest.raises(ArtifactError, match=message):
        session.predict(_rows(5))


def test_a_number_of_padded_steps_is_given_by_the_user(tmp_path: Path) -> None:
    inputs = (X, Input("n_pad", ("batch",), "int64"))
    model, session = _session(tmp_path, lambda m, x, n: _packed(m, x, x.size(1) - n)[1][0], inputs)
    rows = _rows(5, 3, 5)
    with pytest.raises(InputNameError, match="'n_pad' missing"):
        session.predict([{"x": rows[0]}])
    items = [{"x": row, "n_pad": count} for row, count in zip(rows, (0, 1, 3), strict=True)]
    for item, answer in zip(items, session.predict(items), strict=True):
        with torch.no_grad():
            want = model(torch.from_numpy(item["x"])[None], torch.tensor([item["n_pad"]]))[0].numpy()
        np.testing.assert_allclose(answer["output"], want, atol=1e-5)


def test_an_initial_state_that_is_computed_is_not_left_out(tmp_path: Path) -> None:
    _, session = _session(tmp_path, _computed, (X, PER_ROW), square=nn.Linear(6, 6))
    with pytest.raises(InputNameError, match="'feat' missing"):
        session.predict([{"x": _rows(4)[0]}])


def test_a_state_that_may_be_reset_is_zero_where_it_is_left_out(tmp_path: Path) -> None:
    model, session = _session(tmp_path, _kept, (X, H, START))
    row = _rows(4)[0]
    with torch.no_grad():
        want = model(torch.from_numpy(row)[None], torch.zeros(1, 1, 6), torch.zeros(1))["y"][0].numpy()
    np.testing.assert_allclose(session.predict([{"x": row, "start": np.float32(0)}])[0]["y"], want, atol=1e-5)
