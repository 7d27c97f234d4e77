"""Whether an answer of the artifact is the model's own.

Needs: answers of both to the same inputs. Guarantees: each element is judged by itself, by the scale of its own output
and column; NaN, +inf and -inf are three values; what differs by no more than rounding does is no difference.

A fixed tolerance must either excuse a wrong probability among 20,000, all of them below it, or refuse two right
answers that cancel to almost nothing. So the tolerance goes by scale, and where it is exceeded the artifact runs again
with every weight, input and product moved by about the last bit: what moves its answers as far is rounding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np
import onnx_ir as ir
import onnxruntime as ort

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
# Two runtimes may overflow one step apart from here on: the rounding of a value is as large as the room above it.
_OVERFLOWS = 1e30


class Scales:
    """The usual size of each output, column by column where its last axis is fixed.

    Args:
        answers: the model's own, one dict a probe.
    """

    def __init__(self, answers: Sequence[Arrays]) -> None:
        self._columns: dict[str, np.ndarray] = {}
        self._whole: dict[str, float] = {}
        self.with_nan = {name for each in answers for name, array in each.items() if _has_nan(array)}
        for name in answers[0] if answers else ():
            several = [np.asarray(each[name]) for each in answers if np.asarray(each[name]).dtype.kind == "f"]
            if not several:
                continue
            whole = self._whole[name] = max(map(_largest, several))
            ends = {array.shape[-1] for array in several if array.ndim > 1}
            if len(ends) == 1 and all(array.ndim > 1 for array in several):
                columns = np.max([_columns(array) for array in several], axis=0)
                self._columns[name] = np.where(columns > 0, columns, whole)

    def unit(self, name: str, expected: np.ndarray) -> np.ndarray:
        """What a difference is relative to, element by element: at most 1, or the element itself where it is larger."""
        usual, own = self._whole.get(name, 1.0), _largest(expected)
        columns = np.asarray(self._columns.get(name, usual), np.float64)
        if columns.ndim and columns.shape[0] != expected.shape[-1]:
            columns = np.asarray(usual)
        if 0 < own < usual:  # small values came in: what is small beside the usual may be all that there is
            columns = columns * (own / usual)
        sizes = np.where(columns > 0, np.minimum(1.0, columns), 1.0)
        with np.errstate(invalid="ignore"):
            return np.fmax(sizes, np.abs(expected.astype(np.float64)))


def gaps(found: np.ndarray, expected: np.ndarray, unit: np.ndarray | float = 1.0) -> np.ndarray | None:
    """By how much each element differs, in units; infinitely where one is not finite. None for another shape or kind.

    For whole numbers and flags: infinitely where they are others.
    """
    if found.shape != expected.shape or found.dtype.kind != expected.dtype.kind:
        return None
    if expected.dtype.kind != "f":
        return np.where(found == expected, 0.0, np.inf)
    found, expected = found.astype(np.float64), expected.astype(np.float64)
    same = (found == expected) | (np.isnan(found) & np.isnan(expected))
    with np.errstate(invalid="ignore"):
        gap = np.abs(found - expected) / unit
    return np.where(same, 0.0, np.where(np.isfinite(gap), gap, np.inf))


def overflowed(found: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Where two runtimes may differ because the model's own values have grown beyond float32.

    There, and at the elements beside them on the last axis, which infinities reach a step earlier or later.
    """
    if expected.dtype.kind != "f" or _largest(expected) < _OVERFLOWS:
        return np.zeros(expected.shape, bool)
    with np.errstate(invalid="ignore"):
        grown = ~np.isfinite(expected) | (np.abs(expected) > _OVERFLOWS)
        here = grown.any(axis=-1, keepdims=True) if expected.ndim else grown
        return here & (~np.isfinite(found) | (np.abs(found) > _OVERFLOWS))


class Rounding:
    """How far the artifact's own answers move where whatever rounds rounds otherwise.

    Args:
        model: the artifact.
        session: the same on ONNX Runtime.
    """

    def __init__(self, model: ir.Model, session: ort.InferenceSession) -> None:
        self._model, self._session = model, session

    def moves(self, inputs: Arrays, name: str, *, inputs_too: bool) -> np.ndarray:
        """The largest move of each element of an output; infinite where it becomes another whole number, or infinite.

        What becomes NaN has not moved: that is 0 / 0, where something was lost.

        Args:
            inputs: what the artifact answers.
            name: of the output.
            inputs_too: whether the inputs move as well: not where their values are meant to the last bit, as ties are.
        """
        (before,) = self._session.run([name], dict(inputs))
        before = np.asarray(before)
        random = np.random.default_rng(0)
        found = np.zeros(before.shape)
        for session in self._of_choices if before.dtype.kind != "f" else self._of_values:
            for _ in range(_TIMES):
                feed = {key: _nudged(value, random) for key, value in inputs.items()} if inputs_too else inputs
                noise = random.uniform(-1, 1, _POOL_SIZE) * np.finfo(np.float32).eps * _ULPS_OF_PRODUCTS
                (after,) = session.run([name], {**feed, _POOL: noise.astype(np.float32)})
                gap = gaps(np.asarray(after), before)
                if gap is not None:
                    found = np.maximum(found, np.where(_nan(np.asarray(after)) | _nan(before), 0, gap))
        return found * (_ORDERS if before.dtype.kind == "f" else 1.0)

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
    numbers = [ir.node("Constant", [], {"value_int": number}) for number in (0, 1, _POOL_SIZE)]
    first, one, pool_size = (node.outputs[0] for node in numbers)
    count, shape, size = ir.node("Size", [value]), ir.node("Shape", [value]), ir.node("Abs", [value])
    places = ir.node("Range", [first, count.outputs[0], one])
    around = ir.node("Mod", [places.outputs[0], pool_size])
    picked = ir.node("Gather", [pool, around.outputs[0]])
    shaped = ir.node("Reshape", [picked.outputs[0], shape.outputs[0]])
    noise = ir.node("CastLike", [shaped.outputs[0], value])
    nodes = [*numbers, count, shape, places, around, picked, shaped, noise, size]
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


def _nan(array: np.ndarray) -> np.ndarray:
    return np.isnan(array) if array.dtype.kind == "f" else np.zeros(array.shape, bool)


def _has_nan(array: np.ndarray) -> bool:
    return bool(_nan(np.asarray(array)).any())


def _largest(array: np.ndarray) -> float:
    return float(np.abs(array[np.isfinite(array)]).max(initial=0.0))


def _columns(array: np.ndarray) -> np.ndarray:
    """The largest finite value of each column, [last axis]."""
    sizes = np.where(np.isfinite(array), np.abs(array), 0.0).astype(np.float64)
    return sizes.reshape(-1, array.shape[-1]).max(axis=0, initial=0.0)


class Judge:
    """Judges answers of one artifact.

    Args:
        model: the artifact.
        session: the same on ONNX Runtime.
        answers: the model's own at usual values, one dict a probe.
        half: whether the model computes in half precision, whose few digits tell nothing of what is smaller than 1.
    """

    def __init__(
        self, model: ir.Model, session: ort.InferenceSession, answers: Sequence[Arrays], *, half: bool = False
    ) -> None:
        self._scales, self._rounding, self._half = Scales(answers), Rounding(model, session), half

    def difference(
        self, name: str, inputs: Arrays, found: np.ndarray, expected: np.ndarray, tolerance: float, *, exact: bool
    ) -> float:
        """The largest difference of an output that is neither within the tolerance nor rounding; 0 where there is none.

        Args:
            name: of the output.
            inputs: that both answered.
            found: the artifact's answer.
            expected: the model's.
            tolerance: in units of the output's own scale.
            exact: the inputs are meant to the last bit.
        """
        if expected.dtype.kind != "f":
            unit = np.float64(1)
        elif self._half:
            unit = np.fmax(1.0, np.abs(expected.astype(np.float64)))
        else:
            unit = self._scales.unit(name, expected)
        gap = gaps(found, expected, unit)
        if gap is None:
            return float("inf")
        wrong = (gap > tolerance) & ~overflowed(found, expected)
        if not exact and name not in self._scales.with_nan:
            # It usually is a number: values have grown beyond all bounds, and runtimes part where they did.
            wrong &= ~_nan(expected)
        if not wrong.any():
            return 0.0
        with np.errstate(invalid="ignore"):  # infinities that are the same are no distance apart, and not asked about
            apart = gap * unit  # in the output's own numbers, as the moves are
            rounds = wrong & ~(_nan(found) ^ _nan(expected))
            if rounds.any():
                wrong &= ~(rounds & (apart <= self._rounding.moves(inputs, name, inputs_too=False)))
            smooth = wrong & np.isfinite(gap)
            if not exact and smooth.any():
                wrong &= ~(smooth & (apart <= self._rounding.moves(inputs, name, inputs_too=True)))
        return float(gap[wrong].max(initial=0.0))
