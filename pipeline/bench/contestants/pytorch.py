"""PyTorch on the CPU, and the module that seqport's artifact is exported from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pack_sequence, pad_packed_sequence, unpack_sequence

from seqport.pipeline.bench.cases import INPUT_DIM, Case, Inputs, Network
from seqport.pipeline.bench.contestants.entry import Prepared
from seqport.pipeline.bench.contestants.streams import checked_steps, gathered
from seqport.pipeline.bench.networks import pytorch_weights


class PackedModule(nn.Module):
    """A recurrent layer over a packed batch, as users write it."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.layer = layer_of(network)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Run x [batch, seq, INPUT_DIM]; y [batch, seq, features] is zero after each row's length."""
        packed = pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
        y, _ = pad_packed_sequence(self.layer(packed)[0], batch_first=True, total_length=x.size(1))
        return y


class PaddedModule(nn.Module):
    """The same layer over the padded batch: it does not know the lengths."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.layer = layer_of(network)

    def forward(self, x: Tensor) -> Tensor:
        """Run x [batch, seq, INPUT_DIM]."""
        return self.layer(x)[0]


class StateModule(nn.Module):
    """The same layer as a stream needs it: its state comes and goes."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.layer = layer_of(network)

    def forward(self, x: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """Run x [batch, seq, INPUT_DIM] from h_0 (and c_0); give y, h_T (and c_T)."""
        y, final = self.layer(x, state if len(state) == 2 else state[0])
        return (y, *final) if isinstance(final, tuple) else (y, final)


def layer_of(network: Network) -> nn.RNNBase:
    """The network's layer with its weights, for inference."""
    kind: Any = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}[network.cell]
    layer = kind(INPUT_DIM, network.num_hidden_units, batch_first=True, bidirectional=network.bidirectional)
    layer.load_state_dict({name: torch.from_numpy(array) for name, array in pytorch_weights(network).items()})
    return layer.eval()


class OfModule:
    """What every module does with a case, on the device that it was given."""

    device = "cpu"
    lengths = True  # whether the module takes them

    def __init__(self, network: Network, folder: Path) -> None:
        del folder  # its weights need no file
        self.network = network
        self.module = self._build(StateModule if network.with_state else self._module_class())

    def _module_class(self) -> type[nn.Module]:
        return PackedModule

    def _build(self, kind: Any) -> Callable[..., Any]:
        return kind(self.network).to(self.device).eval()

    def prepare(self, case: Case, inputs: Inputs) -> Prepared:
        """Lay the inputs out."""
        if case.kind == "stream":
            return self._prepare_stream(inputs)
        if case.kind == "list":
            return self._prepare_list(inputs)
        x = torch.from_numpy(inputs.x)
        call = self._call(x, torch.from_numpy(inputs.lengths))
        return Prepared(call, lambda: call().cpu().numpy()[inputs.valid])

    def _call(self, x: Tensor, lengths: Tensor) -> Callable[[], Tensor]:
        arguments = (x, lengths) if self.lengths else (x,)

        def call() -> Tensor:
            with torch.inference_mode():
                return self.module(*arguments)

        return call

    def _prepare_stream(self, inputs: Inputs) -> Prepared:
        def stepper() -> Callable[[Tensor], np.ndarray]:
            shape = (self.network.directions, len(inputs.x), self.network.num_hidden_units)
            states = 2 if self.network.cell == "lstm" else 1
            state = [torch.zeros(shape, device=self.device) for _ in range(states)]

            def step(x: Tensor) -> np.ndarray:
                with torch.inference_mode():
                    y, *state[:] = self.module(x.to(self.device), *state)
                    return y.cpu().numpy()

            return step

        x, step = torch.from_numpy(inputs.x), stepper()
        steps = torch.from_numpy(checked_steps(inputs.x))
        return Prepared(lambda: step(x), lambda: gathered(map(stepper(), steps)))

    def _prepare_list(self, inputs: Inputs) -> Prepared:
        items = [torch.from_numpy(item) for item in inputs.items]
        layer: Any = self.module.layer  # pyright: ignore[reportFunctionMemberAccess]

        def call() -> list[Tensor]:
            with torch.inference_mode():
                return unpack_sequence(layer(pack_sequence(items, enforce_sorted=False))[0])

        return Prepared(call, lambda: torch.cat(call()).numpy())


class Packed(OfModule):
    """`pack_padded_sequence`, the layer, `pad_packed_sequence`."""


class Padded(OfModule):
    """The layer alone."""

    lengths = False

    def _module_class(self) -> type[nn.Module]:
        return PaddedModule


class Compiled(Padded):
    """`torch.compile` of the padded module with its own defaults, which leave recurrent layers out of the graph."""

    def _build(self, kind: Any) -> Callable[..., Any]:
        import torch._dynamo as dynamo

        # One contestant opens many networks; what is compiled for one is no reason to give up on the next.
        dynamo.config.cache_size_limit = 1000
        dynamo.config.allow_rnn = False
        return torch.compile(super()._build(kind))


class CompiledWhole(Padded):
    """`torch.compile` with the recurrent layer inside: every step of the loop is written out."""

    def _build(self, kind: Any) -> Callable[..., Any]:
        return torch.compile(super()._build(kind), dynamic=False)

    def _call(self, x: Tensor, lengths: Tensor) -> Callable[[], Tensor]:
        import torch._dynamo as dynamo

        call = super()._call(x, lengths)
        with dynamo.config.patch(allow_rnn=True):
            call()  # compiled here, and only run afterwards
        return call


def export(network: Network, path: Path) -> None:
    """Export the network's module by seqport."""
    from seqport.exporters import Input
    from seqport.exporters import export as seqport_export

    x = Input("x", ("batch", "seq", INPUT_DIM))
    if not network.with_state:
        inputs = [x, Input("lengths", ("batch",), "int64")]
        seqport_export(PackedModule(network).eval(), path, inputs=inputs, outputs=["y"])
        return
    states = ["h", "c"] if network.cell == "lstm" else ["h"]
    axes = (network.directions, "batch", network.num_hidden_units)
    inputs = [x, *(Input(f"{state}_0", axes) for state in states)]
    module = StateModule(network).eval()
    seqport_export(module, path, inputs=inputs, outputs=["y", *(f"{state}_T" for state in states)])
