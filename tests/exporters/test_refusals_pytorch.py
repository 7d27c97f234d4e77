"""What cannot be exported natively is refused with the layer's own name, the cause and the remedy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from support.torch_models import FEATURES, HIDDEN, LENGTHS, Wrapped, X
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from seqport.exporters import ExportError, Input, export


def _listed_lengths(self: Any, x: Tensor, lengths: Tensor) -> Tensor:
    packed = pack_padded_sequence(x, [5, 3, 2], batch_first=True, enforce_sorted=False)
    return self.recurrent(packed)[1] + lengths.sum()


def _made_by_hand(self: Any, x: Tensor, lengths: Tensor) -> Tensor:
    packed = PackedSequence(x.flatten(0, 1), torch.ones(4, dtype=torch.int64) * lengths.shape[0])
    return self.recurrent(packed)[1]


def _unrolled(self: Any, x: Tensor, lengths: Tensor) -> Tensor:
    h = torch.zeros(x.size(0), HIDDEN) + lengths[:, None]
    for _ in range(x.size(1)):
        h = self.cell(x[:, 0] * h.mean(), h)  # what goes in depends on what came out
    return h


def _python_branch(self: Any, x: Tensor, lengths: Tensor) -> Tensor:
    return self.recurrent(x)[1] * (2 if lengths.sum().item() > 3 else 1)


def _frozen_randomness(self: Any, x: Tensor, lengths: Tensor) -> Tensor:
    packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    return self.recurrent(packed)[1] + torch.randn(1)


def _wrong_width(self: Any, x: Tensor, lengths: Tensor) -> Tensor:
    return self.recurrent(x[..., :2])[1] + lengths.sum()


def _branch_on_size(self: Any, x: Tensor, lengths: Tensor) -> Tensor:
    if x.size(1) > 50:
        x = x[:, :50]
    return self.recurrent(x)[1] + lengths.sum()


def _branch_on_one(self: Any, x: Tensor, lengths: Tensor) -> Tensor:
    if x.size(1) == 1:
        x = x * 2
    return self.recurrent(x)[1] + lengths.sum()


def _stops_early(self: Any, x: Tensor, lengths: Tensor) -> Tensor:
    h = torch.zeros(x.size(0), HIDDEN) + lengths[:, None]
    for t in range(min(x.size(1), 50)):
        h = self.cell(x[:, t], h)
    return h


def _hidden_by_a_mask(self: Any, x: Tensor, lengths: Tensor) -> Tensor:
    y = self.recurrent(x)[0]
    if x.size(1) == 1:
        y = y * 0
    return torch.where((torch.arange(x.size(1)) < lengths[:, None])[..., None], y, torch.tensor([1.0] * 4 + [-1e9]) * y)


def _kept_state(self: Any, x: Tensor, lengths: Tensor) -> Tensor:
    y, self.state = self.recurrent(x, getattr(self, "state", None))
    return y * lengths[:, None, None]


CASES = {
    "a list of lengths": (_listed_lengths, "pack_padded_sequence: gets its lengths as a Python list"),
    "a pack made by hand": (_made_by_hand, "recurrent: gets a PackedSequence whose batch_sizes do not come from"),
    "an unrolled loop": (_unrolled, "cell: runs in a Python loop that cannot be rolled back: .*use nn.RNN"),
    "a branch on a tensor": (_python_branch, "PyTorch cannot trace the module: .*Remedy: keep forward free of"),
    "random numbers": (_frozen_randomness, "the model: answers otherwise when it is called again .*switch the random"),
    "a branch on a size": (
        _branch_on_size,
        "the model: was traced on one side of a Python branch: .*'seq' of 50 at most",
    ),
    "a branch on one step": (_branch_on_one, "output 'output': differs from the model's own by .* at batch=1, seq=1"),
    "a loop that stops early": (_stops_early, "the model: holds for 'seq' of 50 at most"),
    "a difference beside large values": (_hidden_by_a_mask, "output 'output': differs from the model's own"),
    "a kept state": (_kept_state, "the model: answers otherwise when it is called again .*make the state an input"),
    "another input size": (_wrong_width, r"recurrent: gets input of shape .*input_size=6"),
}


@pytest.mark.parametrize("name", CASES)
def test_refusal_names_layer_cause_and_remedy(name: str, tmp_path: Path) -> None:
    run, message = CASES[name]
    model = Wrapped(run, recurrent=nn.GRU(FEATURES, HIDDEN, batch_first=True), cell=nn.GRUCell(FEATURES, HIDDEN))
    with pytest.raises(ExportError, match=f"(?s){message}"):
        export(model, tmp_path / "m.onnx", [X, LENGTHS])
    assert not list(tmp_path.iterdir())


def test_not_strict_keeps_the_break_and_records_it(tmp_path: Path) -> None:
    model = Wrapped(_frozen_randomness, recurrent=nn.GRU(FEATURES, HIDDEN, batch_first=True))
    artifact = export(model, tmp_path / "m.onnx", [X, LENGTHS], strict=False)
    assert "answers otherwise when it is called again" in artifact.description.breaks[0]
    onnx.checker.check_model(onnx.load(artifact.path), full_check=True)


class _Declared(nn.Module):
    """A loop that says it is a GRU."""

    def __init__(self, reset_after: bool) -> None:
        super().__init__()
        self.W_hx = nn.Parameter(torch.randn(3 * HIDDEN, FEATURES))
        self.W_hh = nn.Parameter(torch.randn(3 * HIDDEN, HIDDEN))
        self.b_h = nn.Parameter(torch.randn(3 * HIDDEN))
        self.reset_after = reset_after

    def recurrent_description(self) -> dict[str, Any]:
        direction = {"W_hx": self.W_hx, "W_hh": self.W_hh, "b_h": self.b_h}
        return {
            "cell": "gru",
            "hidden_size": HIDDEN,
            "reset_after": self.reset_after,
            "gate_order": "rzn",
            "directions": [direction],
        }

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        h = x.new_zeros(x.size(0), HIDDEN)
        outputs = []
        gates = x @ self.W_hx.T + self.b_h
        for t in range(x.size(1)):
            r, z = torch.sigmoid(gates[:, t, : 2 * HIDDEN] + h @ self.W_hh[: 2 * HIDDEN].T).chunk(2, dim=1)
            n = torch.tanh(gates[:, t, 2 * HIDDEN :] + (r * h) @ self.W_hh[2 * HIDDEN :].T)
            valid = (t < lengths)[:, None]
            h = torch.where(valid, (1 - z) * n + z * h, h)
            outputs.append(torch.where(valid, h, 0))
        return torch.stack(outputs, dim=1), h[None]


def _through_layer(self: Any, x: Tensor, lengths: Tensor) -> Any:
    return self.layer(x, lengths)


def test_a_module_may_declare_its_own_recurrence(tmp_path: Path) -> None:
    artifact = export(Wrapped(_through_layer, layer=_Declared(False)), tmp_path / "m.onnx", [X, LENGTHS])
    (node,) = (n for n in onnx.load(artifact.path).graph.node if n.op_type == "GRU")
    assert {a.name: a.i for a in node.attribute}["linear_before_reset"] == 0


def test_a_false_declaration_is_found_out(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="differs from the model's own"):
        export(Wrapped(_through_layer, layer=_Declared(True)), tmp_path / "m.onnx", [X, LENGTHS])


def test_the_pad_function_is_pytorchs_own_again_after_a_refusal(tmp_path: Path) -> None:
    model = Wrapped(_listed_lengths, recurrent=nn.GRU(FEATURES, HIDDEN, batch_first=True))
    with pytest.raises(ExportError):
        export(model, tmp_path / "m.onnx", [X, Input("lengths", ("batch",), "int64")])
    packed = pack_padded_sequence(torch.ones(2, 3, 1), torch.tensor([3, 1]), batch_first=True)
    assert pad_packed_sequence(packed)[1].tolist() == [3, 1]
