"""Which input is a state, and which output goes back into it: found by feeding it back.

Needs: an artifact on ONNX Runtime and the inputs of a probe. Guarantees: a pair is a state where each recurrent layer
that it reaches starts from what that layer ended with, to the last digits, once the output is fed back (stacked,
joined, transposed, bidirectional states, and those that an input may reset); or where a run in two parts, with the
output fed back, gives what one run gives, and does not with anything else fed (projected states, what a convolution
keeps of the steps before). An initial state that is computed of an input is no state, whatever has its axes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
import onnxruntime as ort

from seqport.exporters.passes.experiments import Arrays, cut, size_of
from seqport.exporters.passes.layers_seen import Layers, State
from seqport.exporters.passes.roles import is_native, upstream, walk_up
from seqport.exporters.signature import Input
from seqport.runtime.artifact import StateInfo, TensorInfo

_PASSING = frozenset(
    {"Identity", "Concat", "Squeeze", "Unsqueeze", "Reshape", "Slice", "Gather", "Where", "Cast", "Transpose"}
)
_OF_SHAPES = frozenset({"Shape", "Size"})
# Two runs round otherwise; a state that is another's, or the first one again, differs by far more.
_CLOSE, _APART = 1e-4, 1e-3

Pairs = dict[str, str]  # input → the output that goes back into it


@dataclass(frozen=True)
class Model:
    """An artifact whose states are looked for.

    Attributes:
        graph: of the artifact.
        layers: its recurrent nodes.
        session: it on ONNX Runtime.
        inputs: the declared inputs.
        outputs: what it gives.
        arrays: inputs of a probe; the lengths in it are those of whole rows.
        steps: the axis that the model runs along; None where it is fixed, or not known.
        lengths: the inputs that count its steps.
    """

    graph: ir.Graph
    layers: Layers
    session: ort.InferenceSession
    inputs: Sequence[Input]
    outputs: Sequence[TensorInfo]
    arrays: Arrays
    steps: str | None
    lengths: Sequence[str]

    def run(self, arrays: Arrays) -> dict[str, np.ndarray]:
        """The answers to some inputs."""
        names = [info.name for info in self.outputs]
        return {n: np.asarray(a) for n, a in zip(names, self.session.run(names, dict(arrays)), strict=True)}

    def candidates(self, item: Input) -> list[str]:
        """The outputs of an input's type and axes."""
        return [info.name for info in self.outputs if (info.axes, info.dtype) == (item.axes, item.dtype)]


def found_states(model: Model) -> tuple[StateInfo, ...]:
    """Find them, in the order of the inputs."""
    possible = [item for item in model.inputs if item.name not in model.lengths and model.candidates(item)]
    possible = [item for item in possible if model.steps is None or model.steps not in item.axes]
    if not possible:
        return ()
    try:
        first = model.run(model.arrays)
        pairs = _starting_where_layers_ended(model, possible, first)
    except Exception:  # it runs, but not on the answers that it gave itself: then none goes back in
        return ()
    if model.steps is not None:
        certain = {name: output for name, output in pairs.items() if not _read_elsewhere(model.graph, name)}
        if any(item.name not in certain for item in possible):
            pairs = _in_two_parts(model, possible, certain, pairs)
    return tuple(StateInfo(item.name, pairs[item.name]) for item in possible if item.name in pairs)


def _starting_where_layers_ended(model: Model, possible: Sequence[Input], first: Mapping[str, np.ndarray]) -> Pairs:
    """The pairs with which every layer that the input reaches starts from what it ended with."""
    reached = {item.name: [s for s in model.layers.states if item.name in upstream(s.given)] for item in possible}
    options = {item.name: _likely(model, item, reached[item.name]) for item in possible if reached[item.name]}
    ended = model.layers.read(model.arrays, [state.final for state in model.layers.states])
    pairs: Pairs = {}
    for place in range(max(map(len, options.values()), default=0)):
        trial = {
            name: outputs[place] for name, outputs in options.items() if name not in pairs and place < len(outputs)
        }
        fed = {**model.arrays, **{name: first[output] for name, output in {**pairs, **trial}.items()}}
        open_ = set(trial)
        for others in (None, np.zeros_like, np.ones_like):  # what may reset a state does not, at one of these
            states = [state for name in sorted(open_) for state in reached[name]]
            arrays = _filled(fed, {*fed} - {*options, *model.lengths}, others)
            started = model.layers.read(arrays, [state.initial for state in states])
            right = {
                name for name in open_ if all(_gap(started[s.initial], ended[s.final]) <= _CLOSE for s in reached[name])
            }
            pairs |= {name: trial[name] for name in right}
            open_ -= right
            if not open_:
                break
    return pairs


def _likely(model: Model, item: Input, states: Sequence[State]) -> list[str]:
    """The outputs that may go back into an input, the likeliest first: those which only pass a last state on."""
    last = {state.last for state in states}
    passing = {value.name for value in model.graph.outputs if _behind(value) & last}
    return sorted(model.candidates(item), key=lambda name: name not in passing)


def _behind(value: ir.Value) -> set[ir.Value]:
    """Values that a state passes through on its way out: reshapes, joins, choices, no arithmetic."""
    return walk_up(value, lambda node: node.inputs if node.op_type in _PASSING else ())


def _filled(arrays: Arrays, names: set[str], like: Callable[..., np.ndarray] | None) -> dict[str, np.ndarray]:
    """The inputs with some of them all zeros or all ones."""
    return {name: like(array) if like is not None and name in names else array for name, array in arrays.items()}


def _read_elsewhere(graph: ir.Graph, name: str) -> bool:
    """Whether something is computed of an input that is no initial state; one that is only given out again is not."""
    stack = [(value, False) for value in graph.inputs if value.name == name]
    seen: set[tuple[ir.Value, bool]] = set()
    while stack:
        value, computed = stack.pop()
        if (value, computed) in seen:
            continue
        seen.add((value, computed))
        if computed and value.is_graph_output():
            return True
        for node, place in value.uses():
            if node.op_type in _OF_SHAPES or (is_native(node) and place >= 5):
                continue
            if is_native(node) or node.graph is not graph:
                return True
            stack.extend((output, computed or node.op_type not in _PASSING) for output in node.outputs)
    return False


def _in_two_parts(model: Model, possible: Sequence[Input], certain: Pairs, likely: Pairs) -> Pairs:
    """The certain pairs, and all further ones with which a run in two parts gives what one run gives."""
    resets = {i.name for i in model.inputs if model.steps not in i.axes} - {*model.lengths} - {i.name for i in possible}
    fills = (None, np.zeros_like, np.ones_like) if resets else (None,)
    trials = [parts for like in fills if (parts := _Parts.of(model, _filled(model.arrays, resets, like)))]
    if not trials:
        return likely
    pairs = dict(likely)
    for name in [name for name in likely if name not in certain]:  # together: each may need the others
        others = {other: output for other, output in pairs.items() if other != name}
        if not any(parts.is_state(others, name, likely[name]) for parts in trials):
            pairs = others
    open_ = [item for item in possible if item.name not in pairs]
    for _ in range(len(open_)):  # one that is found may be what another needs
        before = len(pairs)
        for item in open_:
            outputs = sorted(model.candidates(item), key=lambda name, item=item: name != likely.get(item.name))
            for output in outputs:
                if item.name in pairs or output in pairs.values():
                    continue
                if any(parts.is_state(pairs, item.name, output) for parts in trials):
                    pairs[item.name] = output
        if len(pairs) == before:
            break
    return pairs


@dataclass(frozen=True)
class _Parts:
    """A run in two parts, and in one."""

    model: Model
    whole: dict[str, np.ndarray]
    middle: dict[str, np.ndarray]  # what the first part gave
    rest: dict[str, np.ndarray]  # the inputs of the second part

    @classmethod
    def of(cls, model: Model, arrays: Arrays) -> _Parts | None:
        """None where the model does not run on parts of these inputs."""
        assert model.steps is not None
        size = size_of(arrays, model.inputs, model.steps)
        for last in (1, size // 2):  # few steps, so that the state still matters
            at = size - last
            first, rest = (cut(arrays, model.inputs, model.steps, *ends) for ends in ((0, at), (at, size)))
            for part, steps in ((first, at), (rest, last)):
                part |= {name: np.full_like(part[name], steps) for name in model.lengths}
            try:
                model.run(rest)
                return cls(model, _seen(model, arrays), model.run(first), rest)
            except Exception:  # the model needs more steps
                continue
        return None

    def is_state(self, pairs: Pairs, name: str, output: str) -> bool:
        """Whether one more pair makes the output right, and something right that is wrong without it."""
        try:
            fed, again = (self._gaps(_seen(self.model, self._fed(some))) for some in ({**pairs, name: output}, pairs))
        except Exception:  # what came out does not go in
            return False
        return fed[output] <= _CLOSE and any(gap <= _CLOSE and again[n] > _APART for n, gap in fed.items())

    def _fed(self, pairs: Pairs) -> dict[str, np.ndarray]:
        return {**self.rest, **{name: self.middle[output] for name, output in pairs.items()}}

    def _gaps(self, found: Mapping[str, np.ndarray]) -> dict[str, float]:
        """How far values of the second part are from those of one run; of a layer's X the last steps."""
        along = {
            info.name: info.axes.index(axis) for info in self.model.outputs if (axis := self.model.steps) in info.axes
        }
        whole = {info.name for info in self.model.outputs} - along.keys()
        gaps = {}
        for name, value in found.items():
            want, place = self.whole[name], along.get(name, 0)
            if name in along or (name not in whole and value.ndim):
                want = want[(slice(None),) * place + (slice(want.shape[place] - value.shape[place], None),)]
            gaps[name] = _gap(value, want)
        return gaps


def _seen(model: Model, arrays: Arrays) -> dict[str, np.ndarray]:
    """The answers, and what each recurrent layer gets: one whose own state is no input may answer otherwise."""
    return {**model.run(arrays), **model.layers.data(arrays)}


def _gap(found: np.ndarray, want: np.ndarray) -> float:
    """The largest difference, in parts of the largest value; infinite for other shapes or whole numbers."""
    if found.shape != want.shape:
        return float("inf")
    if want.dtype.kind != "f":
        return 0.0 if np.array_equal(found, want) else float("inf")
    if not (np.isfinite(found).all() and np.isfinite(want).all()):
        return float("inf")
    scale = float(np.abs(want).max(initial=0.0)) or 1.0
    return float(np.abs(found.astype(np.float64) - want).max(initial=0.0)) / scale
