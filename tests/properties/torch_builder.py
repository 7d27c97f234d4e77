"""A drawn PyTorch architecture as the module that a user would write, block by block."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from properties.batches import VOCABULARY
from properties.torch_architectures import LONGER, Architecture, Block, Convolution, Pack, PerStep, Recurrent, Unpack

OUT_DIM = 3
_LAYERS: dict[str, Any] = {"rnn": nn.RNN, "rnn-relu": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}
_FUNCTIONS: dict[str, Any] = {"relu": torch.relu, "tanh": torch.tanh}


def build(architecture: Architecture, seed: int = 0) -> Drawn:
    """The module, with seeded random weights, ready for inference."""
    torch.manual_seed(seed)
    return Drawn(architecture).eval()


class Drawn(nn.Module):
    """Embedding or features, blocks, head."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        self.names = [item.name for item in architecture.inputs]
        width = architecture.width
        self.embedding = nn.Embedding(VOCABULARY, width) if architecture.source == "ids" else nn.Identity()
        self.layers = nn.ModuleDict()
        for index, block in enumerate(architecture.blocks):
            self._make(index, block, width)
            width = block.width if isinstance(block, Recurrent) else width
        last = next(block for block in reversed(architecture.blocks) if isinstance(block, Recurrent))
        self.recurrent = last
        self.score = nn.Linear(width, 1)
        self.head = nn.Linear(last.width if architecture.head == "last" else width, OUT_DIM)

    def _make(self, index: int, block: Block, width: int) -> None:
        """The layers that a block needs."""
        if isinstance(block, Recurrent):
            if block.layer == index:
                self.layers[str(index)] = _recurrent(block, width)
            if block.initial == "learned":
                for name, size in block.states.items():
                    self.register_parameter(f"{name}_{index}", nn.Parameter(torch.randn(block.rows, 1, size)))
        elif isinstance(block, Convolution):
            self.layers[str(index)] = nn.Conv1d(width, width, block.kernel, padding=block.kernel // 2)
        elif isinstance(block, PerStep):
            kinds = {"linear": lambda: nn.Linear(width, width), "norm": lambda: nn.LayerNorm(width)}
            kinds["dropout"] = lambda: nn.Dropout(0.5)
            if block.kind in kinds:
                self.layers[str(index)] = kinds[block.kind]()

    def forward(self, *inputs: Tensor) -> Any:
        given = dict(zip(self.names, inputs, strict=True))
        source = inputs[0]
        if self.architecture.time_major:
            source = source.transpose(0, 1)
        x, lengths = self.embedding(source), given.get("lengths")
        walk = _Walk(self, given, lengths, x.size(1))
        for index, block in enumerate(self.architecture.blocks):
            x = walk.through(index, block, x)
        assert isinstance(x, Tensor)
        output = self._head(x, lengths, walk.state[0])
        return (output, *walk.state) if self.architecture.finals else output

    def _head(self, y: Tensor, lengths: Tensor | None, h_T: Tensor) -> Tensor:
        kind = self.architecture.head
        if kind == "steps":
            return self.head(y)
        if kind == "last":
            return self.head(torch.cat([h_T[-2], h_T[-1]], dim=1) if self.recurrent.bidirectional else h_T[-1])
        assert lengths is not None
        if kind == "gather":
            index = (lengths.long() - 1)[:, None, None].expand(-1, 1, y.size(2))
            return self.head(y.gather(1, index).squeeze(1))
        mask = (torch.arange(y.size(1))[None, :] < lengths[:, None]).unsqueeze(-1)
        if kind == "mean":
            return self.head((y * mask).sum(1) / lengths[:, None])
        if kind == "max":
            return self.head(y.masked_fill(~mask, float("-inf")).max(dim=1).values)
        weights = self.score(y).masked_fill(~mask, -1e9).softmax(dim=1)
        return self.head((weights * y).sum(1))


class _Walk:
    """One pass through the blocks: how the rows are packed now, and the last recurrent block's final states."""

    def __init__(self, model: Drawn, given: dict[str, Tensor], lengths: Tensor | None, seq: int) -> None:
        self.model, self.given, self.lengths, self.seq = model, given, lengths, seq
        self.state: tuple[Tensor, ...] = ()
        self.back: Tensor | None = None  # to the caller's order of rows, where the user has sorted them

    def through(self, index: int, block: Block, x: Any) -> Any:
        if isinstance(block, Pack):
            return self._pack(block, x)
        if isinstance(block, Unpack):
            return self._unpack(block, x)
        if isinstance(block, Recurrent):
            return self._recurrent(index, block, x)
        if isinstance(block, Convolution):
            return self.model.layers[str(index)](x.transpose(1, 2)).transpose(1, 2)
        if isinstance(x, PackedSequence):
            data = self._per_step(index, block, x.data)
            if block.rebuilt == "replace":
                return x._replace(data=data)
            return PackedSequence(data, x.batch_sizes, x.sorted_indices, x.unsorted_indices)
        return self._per_step(index, block, x)

    def _per_step(self, index: int, block: PerStep, x: Tensor) -> Tensor:
        function = _FUNCTIONS.get(block.kind) or self.model.layers[str(index)]
        return x + function(x) if block.residual else function(x)

    def _pack(self, block: Pack, x: Tensor) -> PackedSequence:
        assert self.lengths is not None
        lengths: Any = self.lengths
        if block.order == "by hand":
            lengths, order = lengths.sort(descending=True)
            x, self.back = x.index_select(0, order), order.argsort()
            self.state = tuple(state.index_select(1, order) for state in self.state)
        if block.lengths != "tensor":
            lengths = lengths.cpu() if block.lengths == "cpu" else lengths.tolist()
        x = x if block.batch_first else x.transpose(0, 1)
        return pack_padded_sequence(x, lengths, block.batch_first, enforce_sorted=block.order != "any")

    def _unpack(self, block: Unpack, x: PackedSequence) -> Tensor:
        total = {"seq": self.seq, "max": None, "longer": LONGER}[block.total]
        y, _ = pad_packed_sequence(x, block.batch_first, block.padding_value, total)
        y = y if block.batch_first else y.transpose(0, 1)
        if self.back is not None:
            y = y.index_select(0, self.back)
            self.state = tuple(state.index_select(1, self.back) for state in self.state)
            self.back = None
        return y

    def _recurrent(self, index: int, block: Recurrent, x: Any) -> Any:
        layer = self.model.layers[str(block.layer)]
        swap = isinstance(x, Tensor) and not block.batch_first
        y, state = layer(x.transpose(0, 1) if swap else x, self._initial(index, block))
        self.state = state if isinstance(state, tuple) else (state,)
        return y.transpose(0, 1) if swap else y

    def _initial(self, index: int, block: Recurrent) -> Any:
        batch = next(iter(self.given.values())).size(1 if self.model.architecture.time_major else 0)
        states: list[Tensor] = []
        for position, (name, size) in enumerate(block.states.items()):
            if block.initial == "zeros":
                states.append(torch.zeros(block.rows, batch, size))
            elif block.initial == "learned":
                states.append(getattr(self.model, f"{name}_{index}").expand(-1, batch, -1).contiguous())
            elif block.initial == "given":
                value = self.given[f"{name}_{index}"]
                states.append(value if self.back is None else value.index_select(1, self.back.argsort()))
            elif block.initial == "previous":
                states.append(self.state[position])
        if not states:
            return None
        return states[0] if len(states) == 1 else tuple(states)


def _recurrent(block: Recurrent, width: int) -> nn.RNNBase:
    options: dict[str, Any] = {"nonlinearity": "relu"} if block.cell == "rnn-relu" else {}
    if block.proj_size:
        options["proj_size"] = block.proj_size
    return _LAYERS[block.cell](
        width,
        block.units,
        block.num_layers,
        bias=block.bias,
        batch_first=block.batch_first,
        bidirectional=block.bidirectional,
        **options,
    )
