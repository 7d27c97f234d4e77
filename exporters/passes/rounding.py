"""Which differences are rounding: the artifact runs again with every weight, input and product moved by its last bits.

Needs: places at which two answers differ. Guarantees: an element is excused only where some run, in which everything
rounds otherwise, moves it as far; NaN never is.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import numpy as np
import onnx_ir as ir
import onnxruntime as ort

from seqport.exporters.passes.gaps import gaps, undefined
from seqport.exporters.serial import replaced_weights, session_of, weights_of

Arrays = Mapping[str, np.ndarray]

# In how many twins of the artifact, and how many times in each, everything rounds otherwise, by how many units in the
# last place; and how much further than that two runtimes may be apart, which sum in different orders.
_TWINS, _TIMES, _ULPS, _ORDERS = 2, 8, 2, 16.0
# A recurrent layer adds up the rounding of its steps: ONNX Runtime's GRU was seen 5 units beyond 1.
_ULPS_OF_PRODUCTS = 16
# An input of the twins: random numbers, so many that none comes again soon.
_POOL, _POOL_SIZE = "rounding", 65_537
# Operators behind which every runtime rounds in its own way.
_GATED = frozenset({"RNN", "GRU", "LSTM"})
_INITIAL_H = 5  # its place among their inputs; that of the cell follows
_PRODUCTS = _GATED | {"MatMul", "Gemm", "Conv", "ConvTranspose", "Einsum", "Softmax", "LogSoftmax"}
_FUNCTIONS = frozenset({"Exp", "Log", "Sigmoid", "Tanh", "Erf", "Gelu", "Softplus", "Pow", "Sin", "Cos", "Tan", "Atan"})
# What these give is a difference from 1, of whose last bits little may be left.
_FROM_ONE = frozenset({"Elu", "Selu", "Celu"})
_SUMS = frozenset({"ReduceSum", "ReduceMean", "ReduceL2", "ReduceSumSquare", "CumSum", "LayerNormalization"})
_ROUNDED = _PRODUCTS | _FUNCTIONS | _FROM_ONE | _SUMS


class Rounding:
    """How far the artifact's own answers move where whatever rounds rounds otherwise.

    Args:
        model: the artifact.
        session: the same on ONNX Runtime.
    """

    def __init__(self, model: ir.Model, session: ort.InferenceSession) -> None:
        self._model, self._session = model, session

    def excuses(self, inputs: Arrays, name: str, at: np.ndarray, apart: np.ndarray, *, inputs_too: bool) -> np.ndarray:
        """Which of some elements of an output move as far as they are apart, or become another whole number.

        What becomes NaN has not moved: that is 0 / 0, where something was lost.

        Args:
            inputs: what the artifact answers.
            name: of the output.
            at: the elements, by their places in the flat output.
            apart: how far each is from the model's own, in the output's own numbers.
            inputs_too: whether the inputs move as well: not where their values are meant to the last bit, as ties are.
        """
        before = self._answer(self._session, inputs, name, at)
        random = np.random.default_rng(0)
        orders = _ORDERS if before.dtype.kind == "f" else 1.0
        found = np.zeros(at.size, bool)
        for session in self._of_choices if before.dtype.kind != "f" else self._of_values:
            for _ in range(_TIMES):
                feed = {key: _nudged(value, random) for key, value in inputs.items()} if inputs_too else inputs
                noise = random.uniform(-1, 1, _POOL_SIZE) * np.finfo(np.float32).eps * _ULPS_OF_PRODUCTS
                after = self._answer(session, {**feed, _POOL: noise.astype(np.float32)}, name, at)
                gap = gaps(after, before)
                if gap is not None:
                    found |= ~(undefined(after) | undefined(before)) & (apart <= gap * orders)
                if found.all():
                    return found
        return found

    def _answer(self, session: ort.InferenceSession, inputs: Arrays, name: str, at: np.ndarray) -> np.ndarray:
        """Some elements of an output."""
        return np.asarray(session.run([name], dict(inputs))[0]).reshape(-1)[at]

    @cached_property
    def _of_values(self) -> list[ort.InferenceSession]:
        """Twins in which each value moves by its own last bits."""
        return self._twins(absolute=False)

    @cached_property
    def _of_choices(self) -> list[ort.InferenceSession]:
        """Twins in which each value moves by the last bits of the largest beside it, which choices are made among."""
        return self._twins(absolute=True)

    def _twins(self, *, absolute: bool) -> list[ort.InferenceSession]:
        random = np.random.default_rng(1)
        model = self._model.clone()
        pool = ir.Value(name=_POOL, type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape((_POOL_SIZE,)))
        model.graph.inputs.append(pool)
        for node in list(model.graph):
            if node.op_type in _ROUNDED and node.domain == "":
                for value in node.outputs:
                    if value.uses() or value.is_graph_output():
                        _round_otherwise(model.graph, node, value, pool, absolute=absolute)
        return [_with_other_bits(model, random) for _ in range(_TWINS)]


def _round_otherwise(graph: ir.Graph, node: ir.Node, value: ir.Value, pool: ir.Value, *, absolute: bool) -> None:
    """Let a product round otherwise at each run: what saturates at 1 does not do so at the same bit everywhere."""
    # The pool's numbers one after the other, again and again: ONNX Runtime has no random operator in every opset.
    # Their places in 32 bits: an answer may have many elements.
    numbers = [
        ir.node("Constant", [], {"value": ir.tensor(np.array(number, np.int32))}) for number in (0, 1, _POOL_SIZE)
    ]
    first, one, pool_size = (node.outputs[0] for node in numbers)
    count, shape, size = ir.node("Size", [value]), ir.node("Shape", [value]), ir.node("Abs", [value])
    places_of = ir.node("Cast", [count.outputs[0]], {"to": ir.DataType.INT32})
    places = ir.node("Range", [first, places_of.outputs[0], one])
    around = ir.node("Mod", [places.outputs[0], pool_size])
    picked = ir.node("Gather", [pool, around.outputs[0]])
    shaped = ir.node("Reshape", [picked.outputs[0], shape.outputs[0]])
    noise = ir.node("CastLike", [shaped.outputs[0], value])
    nodes = [*numbers, count, shape, places_of, places, around, picked, shaped, noise, size]
    if absolute:
        nodes.append(ir.node("ReduceMax", [nodes[-1].outputs[0]], {"keepdims": 0}))
    if node.op_type in _GATED | _FROM_ONE:  # gates are of size 1, and so is what is added up of them
        nodes.append(ir.node("Constant", [], {"value_float": 1.0 / _ULPS_OF_PRODUCTS}))
        nodes.append(ir.node("Add", [nodes[-2].outputs[0], nodes[-1].outputs[0]]))
        for state in filter(None, node.inputs[_INITIAL_H:][:2]):  # and of the states before
            before = nodes[-1]
            nodes.append(ir.node("Abs", [state]))
            nodes.append(ir.node("ReduceMax", [nodes[-1].outputs[0]], {"keepdims": 0}))
            nodes.append(ir.node("Add", [before.outputs[0], nodes[-1].outputs[0]]))
    nodes.append(ir.node("Mul", [noise.outputs[0], nodes[-1].outputs[0]]))
    moved = ir.node("Add", [value, nodes[-1].outputs[0]])
    nodes.append(moved)
    for number, part in enumerate(nodes):
        part.outputs[0].name = f"{value.name}/rounded/{number}"
    after, name = moved.outputs[0], value.name
    value.replace_all_uses_with(after, replace_graph_outputs=True)
    for part in (count, shape, size, moved):
        part.replace_input_with(0, value)
    noise.replace_input_with(1, value)
    if after.is_graph_output():
        after.name, value.name = name, f"{name}/exact"
        after.type, after.shape = value.type, value.shape
    graph.insert_after(node, nodes)


def _with_other_bits(model: ir.Model, random: np.random.Generator) -> ort.InferenceSession:
    """The model with other last bits in its matrices; not in single numbers, which are a user's constants."""
    matrices = {
        name: tensor
        for name, tensor in weights_of(model).items()
        if tensor.dtype in (ir.DataType.FLOAT, ir.DataType.DOUBLE) and len(tensor.shape) > 1 and tensor.size > 1
    }
    moved = {name: ir.tensor(_nudged(tensor.numpy(), random), name=name) for name, tensor in matrices.items()}
    with replaced_weights(model, moved):
        return session_of(model)


def _nudged(array: np.ndarray, random: np.random.Generator) -> np.ndarray:
    if array.dtype.kind != "f":
        return array
    step = np.finfo(array.dtype).eps * _ULPS
    with np.errstate(over="ignore", invalid="ignore"):
        return (array * (1 + step * random.uniform(-1, 1, array.shape))).astype(array.dtype)
