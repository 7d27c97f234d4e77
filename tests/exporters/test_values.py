"""Values that no normal draw brings: the artifact gives the model's answers there, or is refused by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
import torch
from support.torch_models import FEATURES, HIDDEN, IDS, Wrapped, X
from torch import Tensor, nn
from torch.nn import functional

from seqport.exporters import ExportError, export
from seqport.runtime import InputValueError, Session

Run = Callable[[Any, Tensor], Tensor]
LARGE = 2**31 + 5


def _summed(self: Any, x: Tensor) -> Tensor:
    return self.recurrent(x)[0].mean()


def _of_numbers(self: Any, ids: Tensor) -> Tensor:
    return self.recurrent(ids[..., None].float().expand(-1, -1, FEATURES))[0]


def _flat() -> np.ndarray:
    x = np.random.default_rng(0).standard_normal((2, 12, FEATURES)).astype(np.float32)
    x[..., 2], x[0, 5:] = 3, 0
    return x


def _times(factor: float) -> np.ndarray:
    return np.float32(factor) * np.random.default_rng(0).standard_normal((4, 9, FEATURES)).astype(np.float32)


def _tenths() -> np.ndarray:
    return (np.arange(2 * 9 * FEATURES).reshape(2, 9, FEATURES) / 10 - 4).astype(np.float32)


FLOATS: dict[str, tuple[Run, np.ndarray]] = {
    "a standard deviation and 1e-8": (
        lambda self, x: (
            (x - x.mean(1, keepdim=True)) / (x.var(1, keepdim=True, correction=0).sqrt() + 1e-8) + _summed(self, x)
        ),
        _flat(),
    ),
    "a reciprocal root of squares and 1e-8": (
        lambda self, x: x * torch.rsqrt((x * x).mean(-1, keepdim=True) + 1e-8) + _summed(self, x),
        _flat(),
    ),
    "a factor of nearly 1": (lambda self, x: (x * 1.000005 - x) * 1e5 + _summed(self, x), _times(1)),
    "an offset of 1e-9": (lambda self, x: (x.abs().sum(-1, keepdim=True) + 1e-9).log() + _summed(self, x), _flat()),
    "clips whose bounds cross": (lambda self, x: x.clamp(-1, 1).clamp(2, 3) + _summed(self, x), _times(1)),
    "a clip below zero behind a relu": (lambda self, x: x.clamp(max=-1).relu() + _summed(self, x), _times(1)),
    "an odd number of columns in two": (
        lambda self, x: torch.cat([x[..., :2], x[..., 2:5] * 2], -1) + _summed(self, x),
        _times(1),
    ),
    "logsigmoid": (lambda self, x: functional.logsigmoid(x) + _summed(self, x), _times(100)),
    "log1p": (lambda self, x: torch.log1p(x) * self.recurrent(x)[0].sum(-1, keepdim=True), _times(1e-4)),
    "logaddexp": (lambda self, x: torch.logaddexp(x, 2 * x) + _summed(self, x), _times(1000)),
    "atan2": (lambda self, x: torch.atan2(x, x.flip(-1)) + _summed(self, x), _tenths()),
    "unit vectors, one of them infinite": (
        lambda self, x: functional.normalize(x, dim=-1) + _summed(self, torch.zeros_like(x)),
        np.where(_times(1) > 1.5, np.float32(np.inf), _times(1)),
    ),
    "the nearest of 130 steps": (
        lambda self, x: functional.interpolate(self.recurrent(x)[0].transpose(1, 2), size=10),
        np.random.default_rng(0).standard_normal((2, 130, FEATURES)).astype(np.float32),
    ),
    "the nearest at 0.3 of the steps": (
        lambda self, x: functional.interpolate(self.recurrent(x)[0].transpose(1, 2), scale_factor=0.3),
        np.random.default_rng(0).standard_normal((2, 130, FEATURES)).astype(np.float32),
    ),
    "expm1": (lambda self, x: torch.expm1(x) * self.recurrent(x)[0].sum(-1, keepdim=True), _times(1e-4)),
    "floor division": (lambda self, x: x // 0.1 + _summed(self, x), _tenths()),
    "floor division by what is negative": (lambda self, x: x // -0.3 + _summed(self, x), _tenths()),
    "a remainder": (lambda self, x: x % 0.3 + _summed(self, x), _tenths()),
    "division towards zero": (
        lambda self, x: torch.div(x, 0.1, rounding_mode="trunc") + _summed(self, x),
        _tenths(),
    ),
}
WHOLE: dict[str, Run] = {
    "clamp": lambda self, ids: _of_numbers(self, ids.clamp(-3, 7)),
    "clamp from above": lambda self, ids: _of_numbers(self, ids.clamp(max=7)),
    "sign": lambda self, ids: _of_numbers(self, ids.sign()),
    "relu": lambda self, ids: _of_numbers(self, functional.relu(ids).clamp(max=7)),
    "minimum": lambda self, ids: _of_numbers(self, torch.minimum(ids, torch.tensor(7))),
    "floor division": lambda self, ids: _of_numbers(self, ids // 3 % 5),
    "division by what is negative": lambda self, ids: _of_numbers(self, ids // -3 % -5),
}


def _agrees(run: Run, item: Any, arrays: np.ndarray, path: Path) -> None:
    torch.manual_seed(0)
    model = Wrapped(run, recurrent=nn.GRU(FEATURES, HIDDEN, batch_first=True)).eval()
    export(model, path, [item])
    with torch.no_grad():
        expected = model(torch.from_numpy(arrays)).numpy()
    (found,) = ort.InferenceSession(path).run(None, {item.name: arrays})
    scale = max(1e-9, float(np.abs(expected[np.isfinite(expected)]).max()))
    np.testing.assert_allclose(np.asarray(found) / scale, expected / scale, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", FLOATS)
def test_floats_are_the_models_at_any_value(name: str, tmp_path: Path) -> None:
    _agrees(FLOATS[name][0], X, FLOATS[name][1], tmp_path / "m.onnx")


@pytest.mark.parametrize("name", WHOLE)
def test_whole_numbers_are_the_models_beyond_32_bits(name: str, tmp_path: Path) -> None:
    ids = np.array([[0, 1, 5, 9, 300], [LARGE, 2**40 + 1, -2, -LARGE, 7]])
    _agrees(WHOLE[name], IDS, ids, tmp_path / "m.onnx")


REFUSED: dict[str, tuple[Run, str]] = {
    "a logarithm of a sigmoid": (
        lambda self, x: torch.log(torch.sigmoid(x)) + _summed(self, x),
        "differs from the model's own by inf .* at values 30 to 1000 times as large",
    ),
    "logcumsumexp": (
        lambda self, x: torch.logcumsumexp(x, 1) + _summed(self, x),
        "differs from the model's own by inf .* at values 30 to 1000 times as large",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_onnx_runtime_computes_otherwise_is_refused(name: str, tmp_path: Path) -> None:
    run, said = REFUSED[name]
    model = Wrapped(run, recurrent=nn.GRU(FEATURES, HIDDEN, batch_first=True)).eval()
    with pytest.raises(ExportError, match=said):
        export(model, tmp_path / "m.onnx", [X])
    # The remedy: values that do occur.
    example = {"x": np.random.default_rng(0).standard_normal((50, 1, FEATURES)).astype(np.float32)}
    assert export(model, tmp_path / "m.onnx", [X], example=example).path.exists()


def test_a_model_that_counts_missing_values_is_the_model_there(tmp_path: Path) -> None:
    def run(self: Any, x: Tensor) -> Tensor:
        missing = x.isnan() | x.isinf()
        return self.recurrent(torch.where(missing, 0.0, x))[0] + missing.float().sum(-1, keepdim=True)

    x = _times(1)
    x[0, 1, 2], x[1, 3, 1] = np.nan, np.inf
    _agrees(run, X, x, tmp_path / "m.onnx")


def test_a_standard_deviation_over_one_step_is_a_limit(tmp_path: Path) -> None:
    """PyTorch gives NaN for it, which is no answer; ONNX Runtime's GRU would make a number of it."""

    def run(self: Any, x: Tensor) -> Tensor:
        return self.recurrent((x - x.mean(1, keepdim=True)) / (x.std(1, keepdim=True) + 1e-5))[0]

    torch.manual_seed(0)
    model = Wrapped(run, recurrent=nn.GRU(FEATURES, HIDDEN, batch_first=True)).eval()
    assert export(model, tmp_path / "m.onnx", [X]).description.limits == {"seq": (2, None)}


def test_what_only_rounds_is_not_refused(tmp_path: Path) -> None:
    """At 1e-4 a probability of 0.5 has lost three digits of its logit, in another way in every runtime."""
    model = Wrapped(
        lambda self, x: torch.logit(torch.sigmoid(x), eps=1e-6) + _summed(self, x),
        recurrent=nn.GRU(FEATURES, HIDDEN, batch_first=True),
    ).eval()
    assert export(model, tmp_path / "m.onnx", [X]).path.exists()


BEFORE: dict[str, Run] = {
    "unit vectors": lambda self, x: self.recurrent(x / x.norm(dim=-1, keepdim=True))[0],
    "a spectrum": lambda self, x: self.recurrent(10 * torch.log10(x.pow(2)))[0],
    "a z-score": lambda self, x: self.recurrent((x - x.mean(-1, keepdim=True)) / x.std(-1, keepdim=True))[0],
    "an activation next to nothing": lambda self, x: self.recurrent(x)[0].sum(-1, keepdim=True) * functional.elu(x),
}


@pytest.mark.parametrize("name", BEFORE)
def test_nan_that_a_model_makes_itself_stays_nan(name: str, tmp_path: Path) -> None:
    model = Wrapped(BEFORE[name], recurrent=nn.GRU(FEATURES, HIDDEN, batch_first=True)).eval()
    path = export(model, tmp_path / "m.onnx", [X]).path
    x = np.zeros((2, 3, FEATURES), np.float32)
    x[1] = np.random.default_rng(0).standard_normal(x[1].shape)
    with torch.no_grad():
        expected = model(torch.from_numpy(x)).numpy()
    found = Session(path, "cpu", kernels="seqport").run({"x": x})["output"]
    np.testing.assert_allclose(found, expected, atol=1e-5)


CODES = torch.arange(12.0).reshape(4, 3)
CHOICES: dict[str, Run] = {
    "codes": lambda self, x: CODES[self.head(self.recurrent(x)[0]).argmax(-1)],
    "one of four": lambda self, x: functional.one_hot(self.head(self.recurrent(x)[0]).argmax(-1), 4).float(),
}


@pytest.mark.parametrize("name", CHOICES)
def test_a_choice_among_nan_is_refused_by_the_session_alone(name: str, tmp_path: Path) -> None:
    parts = {"recurrent": nn.GRU(FEATURES, HIDDEN, batch_first=True), "head": nn.Linear(HIDDEN, 4)}
    path = export(Wrapped(CHOICES[name], **parts).eval(), tmp_path / "m.onnx", [X]).path
    x = np.zeros((1, 3, FEATURES), np.float32)
    x[0, 1, 0] = np.nan
    with pytest.raises(InputValueError, match="ArgMax"):
        Session(path, "cpu").run({"x": x})
