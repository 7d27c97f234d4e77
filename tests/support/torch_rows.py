"""One row a way of writing a PyTorch model: the module, what it is exported with."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils import _pytree as pytree

from seqport.exporters import Input
from support import torch_hand, torch_loops, torch_many_cells
from support.torch_models import (
    FEATURES,
    HIDDEN,
    IDS,
    LENGTHS,
    VOCABULARY,
    X_TIME_MAJOR,
    Batch,
    Classifier,
    EncoderDecoder,
    Subclass,
    Tagger,
    WithState,
    Wrapped,
    X,
    a_number_of_its_own,
    attention,
    backward_loop,
    batch_in_a_dict,
    blended_loop,
    convolution_before,
    flat_outputs,
    given_states,
    gru_loop,
    last_valid,
    learned_state,
    lengths_as_array,
    lengths_as_list,
    lengths_of_ids,
    linear_on_data,
    longer_total,
    masked_lstm_loop,
    masked_lstm_state,
    masked_mean,
    none_among_the_outputs,
    packed_only,
    plain,
    replaced_data,
    reversed_valid_steps,
    sorted_by_hand,
    sorted_rows,
    state_in_a_tuple,
    total_from_lengths,
    twice,
    two_layers_time_major,
    unbatched,
    zeros_written_out,
)


@dataclass(frozen=True)
class Row:
    """One module: how to make it, what it takes, and what it wants of its inputs.

    Attributes:
        sorted_rows: whether rows must fall in length.
        shortest: the fewest steps of a row.
        nested: the inputs as forward takes them, where it does not tell that itself.
        by_name: whether forward takes its inputs by keyword.
    """

    name: str
    make: Callable[[], nn.Module]
    inputs: tuple[Input, ...]
    sorted_rows: bool = False
    shortest: int = 1
    nested: tuple[Any, ...] = ()
    by_name: bool = False
    # One value an input, by name, to forward's arguments; in the inputs' order where left out.
    arranged: Callable[[dict[str, Any]], tuple[Any, ...]] | None = None

    def arguments(self, values: dict[str, Any]) -> tuple[Any, ...]:
        """Forward's arguments, made of one value an input."""
        return self.arranged(values) if self.arranged else tuple(values[item.name] for item in self.inputs)

    def answers(self, model: nn.Module, arrays: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """The module's own answers, flat."""
        tensors = {item.name: torch.from_numpy(arrays[item.name]) for item in self.inputs}
        model = getattr(model, "_orig_mod", model)
        with torch.no_grad():
            result = model(**tensors) if self.by_name else model(*self.arguments(tensors))
        if dataclasses.is_dataclass(result):
            result = list(vars(result).values())
        return [torch.as_tensor(leaf).numpy() for leaf in pytree.tree_leaves(result) if leaf is not None]


def made(
    name: str,
    run: Callable[..., Any],
    inputs: tuple[Input, ...],
    parts: Mapping[str, Callable[[], nn.Module]],
    **more: Any,
) -> Row:
    """The row of a forward that is a function of its module's parts."""
    return Row(name, lambda: Wrapped(run, **{k: make() for k, make in parts.items()}), inputs, **more)


STATES = (Input("h_0", (2, "batch", HIDDEN)), Input("c_0", (2, "batch", HIDDEN)))
LAYERS = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}


def _layer(layer: Callable[..., nn.RNNBase], **options: Any) -> nn.RNNBase:
    return layer(FEATURES, HIDDEN, batch_first=True, **options)


def rows() -> list[Row]:
    """All rows."""
    found = []
    for name, layer in LAYERS.items():
        choices: tuple[dict[str, Any], ...] = (
            {},
            {"bidirectional": True},
            {"num_layers": 2},
            {"num_layers": 2, "bidirectional": True, "dropout": 0.5},
            {"bias": False},
        )
        for options in choices:
            label = "-".join([name, *options])
            found.append(Row(f"tagger-{label}", lambda c=layer, o=options: Tagger(c, **o), (IDS, LENGTHS)))
            found.append(
                Row(f"classifier-{label}", lambda c=layer, o=options: Classifier(c, **o), (X_TIME_MAJOR, LENGTHS))
            )
        found.append(Row(f"{name}-cut", lambda c=layer: Tagger(c, total=False), (IDS, LENGTHS)))
        found.append(
            Row(f"{name}-padding-value", lambda c=layer: Tagger(c, total=False, padding_value=-1.5), (IDS, LENGTHS))
        )
        found.append(Row(f"{name}-no-lengths", lambda c=layer: Wrapped(plain, recurrent=_layer(c)), (X,)))
        found.append(
            Row(
                f"{name}-linear-on-data",
                lambda c=layer: Wrapped(
                    linear_on_data,
                    first=_layer(c),
                    linear=nn.Linear(HIDDEN, FEATURES),
                    second=_layer(c, bidirectional=True),
                ),
                (X, LENGTHS),
            )
        )
        found.append(
            Row(f"{name}-twice", lambda c=layer: Wrapped(twice, recurrent=c(6, 6, batch_first=True)), (X, LENGTHS))
        )
    gru_head = {"recurrent": lambda: _layer(nn.GRU), "head": lambda: nn.Linear(HIDDEN, 2)}

    def wrapped(
        name: str,
        run: Callable[..., Any],
        inputs: tuple[Input, ...],
        parts: dict[str, Callable[[], nn.Module]],
        **more: Any,
    ) -> Row:
        return Row(name, lambda: Wrapped(run, **{k: make() for k, make in parts.items()}), inputs, **more)

    found += [
        Row("rnn-relu", lambda: Tagger(nn.RNN, nonlinearity="relu", bidirectional=True), (IDS, LENGTHS)),
        Row("projected", lambda: Tagger(nn.LSTM, proj_size=3, num_layers=2, bidirectional=True), (IDS, LENGTHS)),
        wrapped(
            "projected-states",
            given_states,
            (X, LENGTHS, Input("h_0", (2, "batch", 3)), Input("c_0", (2, "batch", HIDDEN))),
            {"recurrent": lambda: _layer(nn.LSTM, num_layers=2, proj_size=3)},
        ),
        wrapped("lengths-as-list", lengths_as_list, (X, LENGTHS), gru_head),
        wrapped("lengths-as-array", lengths_as_array, (X, LENGTHS), gru_head),
        wrapped("total-from-lengths", total_from_lengths, (X, LENGTHS), gru_head),
        wrapped(
            "lengths-of-ids",
            lengths_of_ids,
            (IDS,),
            {**gru_head, "embedding": lambda: nn.Embedding(VOCABULARY, FEATURES)},
        ),
        wrapped("int32-lengths", masked_mean, (X, Input("lengths", ("batch",), "int32")), gru_head),
        wrapped("reversed-valid-steps", reversed_valid_steps, (X, LENGTHS), gru_head),
        Row(
            "state-in-a-tuple",
            lambda: WithState(state_in_a_tuple, recurrent=_layer(nn.LSTM, num_layers=2)),
            (X, *STATES),
            arranged=lambda values: (values["x"], (values["h_0"], values["c_0"])),
        ),
        Row(
            "batch-in-a-dict",
            lambda: Batch(batch_in_a_dict, recurrent=_layer(nn.GRU)),
            (X, LENGTHS),
            arranged=lambda values: (values,),
        ),
        Row(
            "float64",
            lambda: Tagger(nn.LSTM, bidirectional=True, num_layers=2).double(),
            (IDS, LENGTHS),
        ),
        Row(
            "weight-norm",
            lambda: Wrapped(
                masked_mean, recurrent=nn.utils.parametrizations.weight_norm(_layer(nn.GRU), "weight_hh_l0")
            ),
            (X, LENGTHS),
        ),
        wrapped("gru-cell", gru_loop, (X,), {"cell": lambda: nn.GRUCell(FEATURES, HIDDEN)}),
        wrapped("rnn-cell-relu", gru_loop, (X,), {"cell": lambda: nn.RNNCell(FEATURES, HIDDEN, nonlinearity="relu")}),
        wrapped(
            "masked-lstm-cell",
            masked_lstm_loop,
            (IDS, LENGTHS),
            {
                "embedding": lambda: nn.Embedding(VOCABULARY, FEATURES),
                "cell": lambda: nn.LSTMCell(FEATURES, HIDDEN),
                "head": lambda: nn.Linear(HIDDEN, 3),
            },
        ),
        wrapped("masked-lstm-state", masked_lstm_state, (X, LENGTHS), {"cell": lambda: nn.LSTMCell(FEATURES, HIDDEN)}),
        wrapped(
            "a-number-of-its-own",
            a_number_of_its_own,
            (IDS,),
            {"embedding": lambda: nn.Embedding(VOCABULARY, FEATURES), "cell": lambda: nn.GRUCell(FEATURES, HIDDEN)},
        ),
        wrapped("none-among-the-outputs", none_among_the_outputs, (X,), {"recurrent": lambda: _layer(nn.GRU)}),
        wrapped(
            "blended-cell",
            blended_loop,
            (X, LENGTHS),
            {"cell": lambda: nn.GRUCell(FEATURES, HIDDEN, bias=False), "head": lambda: nn.Linear(HIDDEN, 2)},
        ),
        wrapped(
            "two-cells-time-major",
            two_layers_time_major,
            (X_TIME_MAJOR,),
            {
                "first": lambda: nn.GRUCell(FEATURES, HIDDEN),
                "linear": lambda: nn.Linear(HIDDEN, 4),
                "second": lambda: nn.RNNCell(4, HIDDEN),
            },
        ),
        wrapped("backward-cell", backward_loop, (X,), {"cell": lambda: nn.GRUCell(FEATURES, HIDDEN)}),
        Row("compiled", lambda: torch.compile(Tagger(nn.GRU)), (IDS, LENGTHS)),  # type: ignore[arg-type, return-value]
        Row("parallel", lambda: nn.DataParallel(Tagger(nn.GRU)), (IDS, LENGTHS)),
        Row(
            "encoder-decoder",
            EncoderDecoder,
            (X, LENGTHS, Input("y", ("batch", "out_seq", FEATURES)), Input("y_lengths", ("batch",), "int64")),
        ),
        Row("subclass", lambda: Subclass(FEATURES, HIDDEN, batch_first=True), (X,)),
        wrapped(
            "zeros-written-out",
            zeros_written_out,
            (IDS, LENGTHS),
            {
                "embedding": lambda: nn.Embedding(VOCABULARY, FEATURES),
                "recurrent": lambda: _layer(nn.LSTM, num_layers=2, bidirectional=True),
            },
        ),
        wrapped(
            "learned-state",
            learned_state,
            (X, LENGTHS),
            {"recurrent": lambda: _layer(nn.GRU, num_layers=2), "start": lambda: nn.Embedding(2, HIDDEN)},
        ),
        wrapped(
            "given-states", given_states, (X, LENGTHS, *STATES), {"recurrent": lambda: _layer(nn.LSTM, num_layers=2)}
        ),
        wrapped("sorted-rows", sorted_rows, (X, LENGTHS), gru_head, sorted_rows=True),
        wrapped("replaced-data", replaced_data, (X, LENGTHS), {**gru_head, "norm": lambda: nn.LayerNorm(FEATURES)}),
        wrapped("flat-outputs", flat_outputs, (X, LENGTHS), gru_head),
        wrapped("sorted-by-hand", sorted_by_hand, (X, LENGTHS), gru_head),
        wrapped("last-valid", last_valid, (X, LENGTHS), gru_head),
        wrapped("masked-mean", masked_mean, (X, LENGTHS), gru_head),
        wrapped("attention", attention, (X, LENGTHS), {**gru_head, "score": lambda: nn.Linear(HIDDEN, 1)}),
        wrapped(
            "convolution-before",
            convolution_before,
            (X, LENGTHS),
            {
                **gru_head,
                "conv": lambda: nn.Conv1d(FEATURES, FEATURES, 3, padding=1),
                "norm": lambda: nn.BatchNorm1d(FEATURES),
            },
        ),
        wrapped("longer-total", longer_total, (X, LENGTHS), gru_head),
        wrapped("packed-only", packed_only, (X, LENGTHS), {}),
        wrapped("unbatched", unbatched, (Input("x", ("seq", FEATURES)),), gru_head),
    ]
    for kind, module in (("loop", torch_loops), ("cells", torch_many_cells), ("hand", torch_hand)):
        found += [wrapped(f"{kind}-{name}", *loop) for name, loop in module.LOOPS.items()]
    return found
