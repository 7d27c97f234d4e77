"""What a loop gives at every step, in terms of its layers' outputs: as they are, zero or repeated where masked.

Needs: a plan. Guarantees: for each collected value the sequence [seq, batch, ...] that the loop collects.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import onnx_ir as ir

from seqport.exporters.lift.errors import NotLiftedError
from seqport.exporters.lift.gates import Choice, choice_of, gate_of
from seqport.exporters.lift.plan import Layer, Plan
from seqport.exporters.lift.steps import State
from seqport.exporters.passes.lengths import is_zero


@dataclass(frozen=True)
class Use:
    """How a collected value follows from a layer.

    Attributes:
        layer: whose outputs it is, or for "masked" whose gate.
        padding: "plain", "zero", "hold", or "masked": computed by the step, and zero where masked.
        first: the state whose initial value is held before any valid step.
        computed: the body's value that a valid step gives, of "masked".
    """

    layer: Layer
    padding: str
    first: State | None = None
    computed: ir.Value | None = None


class Outputs:
    """The outputs of one loop."""

    def __init__(self, plan: Plan) -> None:
        self._plan, self._steps = plan, plan.steps
        self._sequences: dict[int, ir.Value] = {}
        collected = [item.inner for item in plan.steps.emitted if item.outer.uses() or item.outer.is_graph_output()]
        for i in plan.echoes:
            state = plan.carried[i].state
            if state.final.uses() or state.final.is_graph_output():
                collected.append(state.leaving)
        self._uses = [use for use in map(self._use, collected) if use is not None]

    def padding(self, layer: Layer) -> str:
        """What the layer's node gives at padded steps.

        Raises:
            NotLiftedError: one output wants zeros and another the last value.
        """
        wanted = {use.padding for use in self._uses if use.layer is layer} - {"plain", "masked"}
        if len(wanted) > 1:
            raise NotLiftedError("one of its outputs is zero at masked steps and another repeats")
        return wanted.pop() if wanted else "zero"

    def set(self, layer: Layer, y: ir.Value) -> None:
        """Note a layer's outputs."""
        self._sequences[layer.h] = y

    def of(self, h: int) -> ir.Value:
        """The outputs of the layer with this h."""
        return self._sequences[h]

    def sequence(
        self,
        value: ir.Value,
        hoisted: Callable[[ir.Value], ir.Value],
        where_seen: Callable[[Layer, ir.Value, State], ir.Value],
        where_valid: Callable[[Layer, ir.Value], ir.Value],
    ) -> ir.Value:
        """The collected value for all steps.

        Args:
            value: of the body.
            hoisted: gives any value of the body for all steps.
            where_seen: gives a layer's outputs with its initial state before a row's first valid step.
            where_valid: gives a sequence with zeros where a layer is masked.

        Raises:
            NotLiftedError: it cannot be had from the layers' outputs.
        """
        use = self._use(value)
        if use is None:
            return hoisted(value)
        if use.computed is not None:
            return where_valid(use.layer, hoisted(use.computed))
        y = self._sequences[use.layer.h]
        if use.padding == "hold" and use.first is not None and not is_zero(use.first.initial):
            return where_seen(use.layer, y, use.first)
        return y

    def _use(self, value: ir.Value) -> Use | None:
        """How a collected value follows from a layer, or None where it is computed from several values."""
        value = self._steps.resolve(value)
        found = self._plan.layer_of(value)
        if found is not None:
            layer, gated = found
            if layer.gate is None:
                return Use(layer, "plain")
            if gated:
                return Use(layer, "hold", self._plan.carried[layer.h].state)
            raise NotLiftedError("it gives out what it computes from the padding")
        choice = choice_of(self._steps, value)
        if choice is None:
            return self._computed(value)
        if choice.old is not None and is_zero(choice.new):
            choice = choice.opposite()
        found = self._plan.layer_of(choice.new) or (self._plan.layer_of(choice.old) if choice.old else None)
        if found is None:
            return self._masked(choice) or self._computed(value)
        if self._plan.layer_of(choice.new) is None:
            choice = choice.opposite()
        layer = found[0]
        if layer.gate is None or gate_of(self._steps, choice, self._plan.index) != layer.gate:
            raise NotLiftedError("an output is masked by another test than the state")
        if choice.old is None or is_zero(choice.old):
            return Use(layer, "zero")
        h = self._plan.carried[layer.h].state
        if choice.old in (h.entry, self._steps.resolve(h.leaving)):
            return Use(layer, "hold", h)
        for i in self._plan.echoes:
            echo = self._plan.carried[i].state
            if choice.old is echo.entry and self._steps.resolve(echo.leaving) is value:
                return Use(layer, "hold", echo)
            if choice.old is echo.entry and self._same_echo(i, layer):
                return Use(layer, "hold", echo)
        raise NotLiftedError("a masked step gives out neither zero nor the output before")

    def _masked(self, choice: Choice) -> Use | None:
        """A value that a step computes and blanks where it is masked, all layers by the same test."""
        layer, *others = self._plan.layers
        if (choice.old is not None and not is_zero(choice.old)) or any(other.gate != layer.gate for other in others):
            return None
        if layer.gate is None or gate_of(self._steps, choice, self._plan.index) != layer.gate:
            return None
        return Use(layer, "masked", computed=choice.new)

    def _same_echo(self, i: int, layer: Layer) -> bool:
        carried = self._plan.carried[i]
        if carried.choice is None or self._plan.layer_of(carried.new) != (layer, False):
            return False
        return gate_of(self._steps, carried.choice, self._plan.index) == layer.gate

    def _computed(self, value: ir.Value) -> None:
        """A value to be hoisted; at masked steps it would be computed from other states than the loop's."""
        if any(layer.gate is not None for layer in self._plan.layers) and self._reads_layer(value):
            raise NotLiftedError("an output is computed from a masked state")

    def _reads_layer(self, value: ir.Value) -> bool:
        stack, seen = [value], set()
        while stack:
            item = self._steps.resolve(stack.pop())
            if item in seen:
                continue
            seen.add(item)
            if self._plan.layer_of(item) is not None:
                return True
            node = item.producer()
            if node is not None and self._steps.is_inner(item):
                stack.extend(v for v in node.inputs if v is not None)
        return False
