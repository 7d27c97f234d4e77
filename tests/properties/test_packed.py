"""Whatever stands behind recurrent layers, a packed graph answers as the graph that it was made from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto, helper, numpy_helper
from runtime.recurrent_graphs import HIDDEN, Form, feed_of, model_of, run

from properties.profiles import examples
from seqport.runtime.rewriting.packing import pack

LENGTHS, STEPS = [3, 9, 1, 9, 4, 2, 7], 9
ROWS = len(LENGTHS)

FORMS = st.builds(
    Form,
    st.sampled_from(["LSTM", "GRU"]),
    st.integers(1, 2),
    st.sampled_from(["forward", "reverse", "bidirectional"]),
    joined=st.sampled_from(["batch", "time"]),
    batch_first=st.booleans(),
)


class Tail:
    """Values behind the layers, each [B, T, F] or [T, B, F], and what makes new ones of them."""

    def __init__(self, form: Form, draw: Callable[[int], int]) -> None:
        self.model, self.draw = model_of(form), draw
        name = "y" if form.joined == "batch" else f"joined{form.layers - 1}"
        # Each with whether the batch comes first, and its features.
        self.values = [(name, form.joined == "batch", form.num_directions * HIDDEN)]
        self._random = np.random.default_rng(draw(1000))

    def add(self, op_type: str, *inputs: str, **attributes) -> str:
        name = f"tail{len(self.model.graph.node)}"
        self.model.graph.node.append(helper.make_node(op_type, list(inputs), [name], f"{name}.node", **attributes))
        return name

    def constant(self, *shape: int) -> str:
        return self._named(self._random.normal(0, 0.4, shape).astype(np.float32))

    def axis(self, value: int) -> str:
        return self._named(np.array([value]))

    def _named(self, array: np.ndarray) -> str:
        name = f"constant{len(self.model.graph.initializer)}"
        self.model.graph.initializer.append(numpy_helper.from_array(array, name))
        return name

    def grow(self) -> None:
        """One more value."""
        value, first, width = self.values[self.draw(len(self.values))]
        kind = self.draw(11)
        axis = [-1, 2, 1, 0][self.draw(4)]
        columns = [3, 60, 400][self.draw(3)]
        if kind == 0:
            found = self.add("MatMul", value, self.constant(width, columns)), first, columns
        elif kind == 1:
            step, row = (STEPS, ROWS) if first else (ROWS, STEPS)
            shapes = [(width,), (1,), (), (1, 1, width), (step, width), (row, 1, 1), (1, step, 1)]
            op_type = ["Add", "Mul", "Sub"][self.draw(3)]
            found = self.add(op_type, value, self.constant(*shapes[self.draw(len(shapes))])), first, width
        elif kind == 2:
            found = self.add(["Tanh", "Relu", "Erf"][self.draw(3)], value), first, width
        elif kind == 3:
            found = self.add(["Softmax", "LogSoftmax"][self.draw(2)], value, axis=axis), first, width
        elif kind == 4:
            found = self.add("LayerNormalization", value, self.constant(width), self.constant(width)), first, width
        elif kind == 5:
            alike = [one for one in self.values if one[1] == first]
            other = alike[self.draw(len(alike))]
            found = self.add("Concat", value, other[0], axis=-1), first, width + other[2]
        elif kind == 6:
            found = self.add("Transpose", value, perm=[1, 0, 2]), not first, width
        elif kind == 7:
            op_type = ["ReduceMean", "ReduceMax", "ReduceSum"][self.draw(3)]
            found = self.add("Sub", value, self.add(op_type, value, self.axis(axis), keepdims=1)), first, width
        elif kind == 8:
            score = self.add("Squeeze", self.add("MatMul", value, self.constant(width, 1)), self.axis(2))
            found = self.add("Mul", value, self.add("Unsqueeze", score, self.axis(-1))), first, width
        elif kind == 9:
            best = self.add("ArgMax", value, axis=2, keepdims=0)
            found = self.add("Gather", self.constant(width, 6), best), first, 6
        else:
            found = self._layer(value, first, width), False, HIDDEN
        self.values.append(found)

    def _layer(self, value: str, first: bool, width: int) -> str:
        x = self.add("Transpose", value, perm=[1, 0, 2]) if first else value
        weights = [
            self.constant(1, 4 * HIDDEN, width),
            self.constant(1, 4 * HIDDEN, HIDDEN),
            self.constant(1, 8 * HIDDEN),
        ]
        direction = ["forward", "reverse"][self.draw(2)]
        y = self.add("LSTM", x, *weights, "lengths_32", hidden_size=HIDDEN, direction=direction)
        return self.add("Squeeze", y, self.axis(1))

    def give(self, *names: str) -> ModelProto:
        """The model, with these outputs beside its own."""
        known = {output.name for output in self.model.graph.output}
        for name in dict.fromkeys(names):
            if name not in known:
                info = helper.make_tensor_value_info(name, TensorProto.FLOAT, [f"{name}.{i}" for i in range(3)])
                self.model.graph.output.append(info)
        return self.model


@examples(few=60)
@given(form=FORMS, draws=st.lists(st.integers(0, 999), min_size=4, max_size=60), cuts=st.sampled_from([1e-6, 2.0, 1e9]))
def test_a_packed_graph_answers_as_before(form: Form, draws: list[int], cuts: float) -> None:
    todo = list(reversed(draws))
    tail = Tail(form, lambda below: todo.pop() % below if todo else 0)
    while todo:
        tail.grow()
    model = tail.give(tail.values[-1][0], tail.values[len(tail.values) // 2][0])
    other = ModelProto()
    other.CopyFrom(model)
    assert pack(other, Path(), lambda _: cuts)
    feed = feed_of(form, LENGTHS, STEPS)
    answer = run(other, feed)
    for name, value in run(model, feed).items():
        # Means and products behind the layers may be summed in another order; see docs/packing.md.
        np.testing.assert_allclose(answer[name], value, rtol=1e-5, atol=1e-5, err_msg=name)
