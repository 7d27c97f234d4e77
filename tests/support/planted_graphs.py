"""Shortcuts that a pass of an export, or of a translator, could take; and models whose proof must see them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from seqport.exporters import Input
from seqport.exporters.passes.builder import constant
from support.torch_models import FEATURES, IDS, LENGTHS, X


def take_the_place(graph: ir.Graph, value: ir.Value, other: ir.Value) -> None:
    """Another value goes out of the graph, or on in it, under the name of the first."""
    if not value.is_graph_output():
        value.replace_all_uses_with(other)
        return
    place = list(graph.outputs).index(value)
    other.type, other.shape = value.type, value.shape
    other.name, value.name = value.name, f"{value.name}.right"
    graph.outputs[place] = other


def stored(graph: ir.Graph, name: str, array: np.ndarray) -> ir.Value:
    value = ir.Value(name=name, const_value=ir.tensor(array, name=name))
    graph.register_initializer(value)
    return value


def drop_epsilon(graph: ir.Graph) -> None:
    """Adding 1e-8 is taken for adding nothing."""
    for node in graph:
        for place, value in enumerate(node.inputs):
            found = constant(value)
            if node.op_type == "Add" and found is not None and found.size == 1 and 0 < found.reshape(-1)[0] < 1e-6:
                other = node.inputs[1 - place]
                assert other is not None
                node.outputs[0].replace_all_uses_with(other)


def fill_otherwise(graph: ir.Graph) -> None:
    """What stands where a value is missing is 9."""
    (where,) = [node for node in graph if node.op_type == "Where"]
    where.replace_input_with(1, stored(graph, "nine", np.array(9, np.float32)))


def saturate_early(graph: ir.Graph) -> None:
    """-softplus(-x) is written as log(sigmoid(x))."""
    (softplus,) = [node for node in graph if node.op_type == "Softplus"]
    (below,), (above,) = softplus.predecessors(), softplus.successors()
    sigmoid = ir.node("Sigmoid", [below.inputs[0]])
    logarithm = ir.node("Log", [sigmoid.outputs[0]])
    graph.insert_after(above, [sigmoid, logarithm])
    take_the_place(graph, above.outputs[0], logarithm.outputs[0])


def narrow_integers(graph: ir.Graph) -> None:
    """A choice between whole numbers looks at 32 bits of them."""
    (less,) = [node for node in graph if node.op_type == "Less"]
    narrow = [ir.node("Cast", [value], {"to": ir.DataType.INT32}) for value in less.inputs]
    graph.insert_before(less, narrow)
    for place, node in enumerate(narrow):
        less.replace_input_with(place, node.outputs[0])


def change_the_smallest(graph: ir.Graph) -> None:
    """Of probabilities, all far below 1, every one is half as large again."""
    (softmax,) = [node for node in graph if node.op_type == "Softmax"]
    larger = ir.node("Mul", [softmax.outputs[0], stored(graph, "factor", np.array(1.5, np.float32))])
    graph.insert_after(softmax, larger)
    take_the_place(graph, softmax.outputs[0], larger.outputs[0])


def change_beside_infinity(graph: ir.Graph) -> None:
    """One output is -inf at some steps, and another is the negative of what it should be."""
    value = graph.outputs[1]
    negative = ir.node("Neg", [value])
    graph.append(negative)
    take_the_place(graph, value, negative.outputs[0])


def keep_where(graph: ir.Graph, value: ir.Value, mask: ir.Value, nodes: list[ir.Node]) -> None:
    """Zeros take the place of a value of floats where a mask is false, which some new nodes compute."""
    factor = ir.node("Cast", [mask], {"to": ir.DataType.FLOAT})
    product = ir.node("Mul", [value, factor.outputs[0]])
    graph.extend([*nodes, factor, product])
    take_the_place(graph, value, product.outputs[0])


def forget_late_steps(graph: ir.Graph) -> None:
    """What a sequence of more than 400 steps answers is zero, as where a table of positions ends."""
    value = graph.outputs[0]
    size = ir.node("Shape", [graph.inputs[0]], {"start": 1, "end": 2})
    few = ir.node("LessOrEqual", [size.outputs[0], stored(graph, "most", np.array([400], np.int64))])
    keep_where(graph, value, few.outputs[0], [size, few])


def change_places(graph: ir.Graph) -> None:
    """Two inputs of the same axes are taken for each other."""
    x, y = graph.inputs[0], graph.inputs[1]
    of_x, of_y = list(x.uses()), list(y.uses())
    for uses, other in ((of_x, y), (of_y, x)):
        for node, place in uses:
            node.replace_input_with(place, other)


def limit_the_batch(graph: ir.Graph) -> None:
    """All rows become zero where one of them holds a number above 40."""
    value = graph.outputs[0]
    largest = ir.node("ReduceMax", [graph.inputs[0]], {"keepdims": 0})
    low = ir.node("Less", [largest.outputs[0], stored(graph, "limit", np.array(40, np.float32))])
    keep_where(graph, value, low.outputs[0], [largest, low])


def take_a_mean_of_all_rows(graph: ir.Graph) -> None:
    """A final state is the mean over all rows, which is right where there is one row."""
    value = graph.outputs[1]
    axis = stored(graph, "rows", np.array([1], np.int64))
    mean = ir.node("ReduceMean", [value, axis], {"keepdims": 1})
    nothing = ir.node("Sub", [value, value])
    same = ir.node("Add", [mean.outputs[0], nothing.outputs[0]])
    graph.extend([mean, nothing, same])
    take_the_place(graph, value, same.outputs[0])


def lose_a_length(graph: ir.Graph) -> None:
    """The last step of each row is taken for padding, but for rows of a single step."""
    (node,) = [node for node in graph if node.op_type == "GRU"]
    lengths = node.inputs[4]
    assert lengths is not None
    one = stored(graph, "one", np.array(1, np.int32))
    fewer = ir.node("Sub", [lengths, one])
    at_least_one = ir.node("Max", [fewer.outputs[0], one])
    graph.insert_before(node, [fewer, at_least_one])
    node.replace_input_with(4, at_least_one.outputs[0])


def start_from_zero(graph: ir.Graph) -> None:
    """A state that came in is not looked at."""
    (node,) = [node for node in graph if node.op_type == "GRU"]
    state = node.inputs[5]
    assert state is not None
    zero = ir.node("Sub", [state, state])
    graph.insert_before(node, zero)
    node.replace_input_with(5, zero.outputs[0])


class Shortcut(NamedTuple):
    """A fault of a graph, a model to plant it in, and what its refusal must say."""

    plant: Callable[[ir.Graph], None]
    run: Callable[..., Any]
    said: str
    inputs: tuple[Input, ...] = (X,)


def _normalised(self: Any, x: Tensor) -> Tensor:
    spread = x.var(1, keepdim=True, correction=0).sqrt()
    return (x - x.mean(1, keepdim=True)) / (spread + 1e-8) + self.recurrent(x)[0].mean()


def _normalised_features(self: Any, x: Tensor) -> Tensor:
    """Features that are all alike, behind a product whose rounding must excuse nothing."""
    h = functional.linear(x, self.to_h.weight, torch.ones(8))
    spread = h.var(-1, keepdim=True, correction=0).sqrt()
    return (h - h.mean(-1, keepdim=True)) / (spread + 1e-8) + self.recurrent(x)[0].mean()


def _filled(self: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    """A missing value is 7, beside an output in which it stays missing."""
    return torch.where(torch.isnan(x), 7.0, x), x * 2 + self.recurrent(torch.zeros_like(x))[0].mean()


def _masked(self: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    late = (torch.arange(x.size(1)) >= 3)[None, :, None]
    y, h = self.recurrent(x)
    return y.masked_fill(late, float("-inf")), h


def _asking(self: Any, x: Tensor) -> Tensor:
    """Either way is the same: but that it asks tells the proof where to look."""
    y = self.recurrent(x)[0]
    return y + 0 if x.size(1) * 0.02 > 8 else y


def _looping(self: Any, x: Tensor, asks: bool = True) -> Tensor:
    """The same in a loop, which asks for the number of a step, or for nothing."""
    h = x.new_zeros(x.size(0), 8)
    steps = []
    for t in range(x.size(1)):
        h = torch.tanh(self.to_h(x[:, t]) + self.again(h))
        steps.append(h + 0 if asks and t >= 400 else h)
    return torch.stack(steps, 1)


def _packed(self: Any, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    y, h = self.recurrent(pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False))
    return pad_packed_sequence(y, batch_first=True, total_length=x.size(1))[0], h


Y = Input("y", X.axes)
H_0 = Input("h_0", (1, "batch", 8))

SHORTCUTS = {
    "an epsilon": Shortcut(drop_epsilon, _normalised, "differs from the model's own by inf"),
    "an epsilon behind a product": Shortcut(drop_epsilon, _normalised_features, "the model's own by inf"),
    "a missing value": Shortcut(fill_otherwise, _filled, "output 'output_0' differs .* at NaN and infinities"),
    "a logarithm": Shortcut(
        saturate_early,
        lambda self, x: functional.logsigmoid(x) + self.recurrent(x)[0].mean(),
        "at values 30 to 1000 times as large",
    ),
    "64 bits": Shortcut(
        narrow_integers,
        lambda self, ids: self.recurrent(ids.clamp(max=7)[..., None].float().expand(-1, -1, FEATURES))[0],
        r"at whole numbers beyond 2\*\*31",
        (IDS,),
    ),
    "a small probability": Shortcut(
        change_the_smallest,
        lambda self, x: torch.softmax(self.head(self.recurrent(x)[0]), -1),
        "output 'output': differs from the model's own by 0.5",
    ),
    "an output beside infinities": Shortcut(change_beside_infinity, _masked, "differs from the model's own by"),
    "a size": Shortcut(forget_late_steps, _asking, "seq=401, next to where .*planted_graphs.py.* turns"),
    "a step of a loop": Shortcut(forget_late_steps, _looping, "seq=40[12], next to where .*planted_graphs.py.* turns"),
    "a step that nothing asks for": Shortcut(forget_late_steps, lambda self, x: _looping(self, x, False), "seq=1025"),
    "an input": Shortcut(change_places, lambda self, x, y: self.recurrent(x - 2 * y)[0], "differs", (X, Y)),
    "a limiter of all rows": Shortcut(limit_the_batch, lambda self, x: self.recurrent(x)[0], "at values 30 to 1000"),
    "a state of all rows": Shortcut(
        take_a_mean_of_all_rows, lambda self, x: self.recurrent(x), "output 'output_1': differs"
    ),
    "a length": Shortcut(lose_a_length, _packed, "differs from the model's own by", (X, LENGTHS)),
    "a state": Shortcut(start_from_zero, lambda self, x, h_0: self.recurrent(x, h_0)[0], "differs", (X, H_0)),
}
