"""What a step computes from its input alone, for all steps at once, before the loop.

Needs: a loop's body and a time-major sequence for each value that a step reads. Guarantees: the value with time as
its first axis, or a NotLiftedError where an operator has no form for all steps.
"""

from __future__ import annotations

import onnx_ir as ir

from seqport.exporters.lift.errors import NotLiftedError
from seqport.exporters.lift.steps import Steps
from seqport.exporters.lift.walk import attribute
from seqport.exporters.passes.builder import Builder, outputs_of

# Ops that treat every element alike, so that one more axis in front changes nothing.
_ELEMENTWISE = frozenset(
    [
        "Abs",
        "Add",
        "And",
        "Cast",
        "Ceil",
        "Clip",
        "Cos",
        "Div",
        "Elu",
        "Equal",
        "Erf",
        "Exp",
        "Floor",
        "Gelu",
        "Greater",
        "GreaterOrEqual",
        "HardSigmoid",
        "HardSwish",
        "Identity",
        "LeakyRelu",
        "Less",
        "LessOrEqual",
        "Log",
        "Max",
        "Min",
        "Mish",
        "Mul",
        "Neg",
        "Not",
        "Or",
        "Pow",
        "Reciprocal",
        "Relu",
        "Round",
        "Selu",
        "Sigmoid",
        "Sign",
        "Sin",
        "Softplus",
        "Softsign",
        "Sqrt",
        "Sub",
        "Sum",
        "Tanh",
        "ThresholdedRelu",
        "Where",
        "Xor",
    ]
)
# Ops along the last axis.
_ALONG_LAST = frozenset({"Concat", "Split", "Softmax", "LogSoftmax", "LayerNormalization"})


class Hoist:
    """Body values for all steps.

    Args:
        build: where to emit.
        steps: the loop.
        known: body values that already have a sequence [seq, batch, ...].
    """

    def __init__(self, build: Builder, steps: Steps, known: dict[ir.Value, ir.Value]) -> None:
        self._build, self._steps, self._known = build, steps, known

    def sequence(self, value: ir.Value) -> ir.Value:
        """The value with time in front; an outer value or a constant as it is.

        Raises:
            NotLiftedError: it cannot be had for all steps at once.
        """
        value = self._steps.resolve(value)
        if value in self._known:
            return self._known[value]
        array = self._steps.facts.of(value)
        if array is not None and self._steps.is_body(value):
            self._known[value] = self._build.const(array, array.dtype)
        elif not self._steps.is_inner(value):
            return value
        else:
            node = value.producer()
            if node is None:
                raise NotLiftedError(f"an output needs {value.name!r} of every step")
            for output, found in zip(node.outputs, self._of_node(node), strict=True):
                self._known[output] = found
        return self._known[value]

    def _of_node(self, node: ir.Node) -> list[ir.Value]:
        op = node.op_type
        inputs = [None if item is None else self.sequence(item) for item in node.inputs]
        attributes = {name: item.value for name, item in node.attributes.items()}
        if op in ("Unsqueeze", "Squeeze") and len(node.inputs) > 1:
            axes = self._steps.facts.of(node.inputs[1])
            if axes is not None:
                shifted = [axis + 1 if axis >= 0 else axis for axis in axes.reshape(-1).tolist()]
                return [self._build.op(op, inputs[0], self._build.const(shifted, name="axes"))]
        if op == "Gemm":
            return [self._gemm(node, inputs)]
        if (
            op == "Gather"
            and attribute(node, "axis", 0) == 0
            and not self._steps.is_inner(node.inputs[0] or node.outputs[0])
        ):
            return [self._build.op(op, *inputs, axis=0)]
        last = self._along_last(node)
        if op in _ELEMENTWISE or op == "MatMul" or last:
            if last:
                attributes["axis"] = -1
            if attributes.pop("num_outputs", None) is not None:
                inputs.append(self._equal_parts(node))
            found = self._build.op(op, *inputs, num_outputs=len(node.outputs), **attributes)
            return list(outputs_of(found))
        raise NotLiftedError(f"a step computes {op} ({node.name}) beside its cell")

    def _equal_parts(self, node: ir.Node) -> ir.Value:
        """The sizes that a Split by number gives."""
        size = self._steps.facts.width(node.outputs[0])
        if size is None:
            raise NotLiftedError(f"a step splits a vector of unknown size ({node.name}) beside its cell")
        return self._build.const([size] * len(node.outputs), name="sizes")

    def _along_last(self, node: ir.Node) -> bool:
        if node.op_type not in _ALONG_LAST:
            return False
        axis = attribute(node, "axis", -1)
        shape = self._steps.facts.shape(node.outputs[0])
        return axis == -1 or axis == (len(shape) if shape is not None else 2) - 1

    def _gemm(self, node: ir.Node, inputs: list[ir.Value | None]) -> ir.Value:
        matrix = self._steps.facts.of(node.inputs[1])
        plain = all(attribute(node, key, 1.0) == 1.0 for key in ("alpha", "beta")) and not attribute(node, "transA", 0)
        if matrix is None or not plain:
            raise NotLiftedError(f"a step computes Gemm ({node.name}) beside its cell")
        W = self._build.const(matrix.T if attribute(node, "transB", 0) else matrix, matrix.dtype, "W")
        product = self._build.op("MatMul", inputs[0], W)
        return product if len(inputs) < 3 or inputs[2] is None else self._build.op("Add", product, inputs[2])
