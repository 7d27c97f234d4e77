"""Numbers note what a model's own code compares them with, and the sizes at which that turns are found from it."""

from __future__ import annotations

import argparse
import functools
import itertools
import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from support.torch_models import FEATURES, HIDDEN, LENGTHS, X_TIME_MAJOR, Wrapped, X
from torch import Tensor, nn

from seqport.exporters import Input
from seqport.exporters.comparisons import Comparison, Term
from seqport.exporters.frontends.noting.standins import Steps
from seqport.exporters.frontends.pytorch.guards import conditions_of, traced_symbols
from seqport.exporters.frontends.pytorch.noting import Noting
from seqport.exporters.passes.draws import MEASURED, Draws
from seqport.exporters.passes.follows import condition
from seqport.exporters.passes.turning import Turns, far, rows_of, searched

CONFIGURATION = argparse.Namespace(most=350)
SPECIAL = {350: "halved"}
Y = Input("y", ("batch", "other", FEATURES))


def _turns(run: Callable[..., Any], *inputs: Input, looped: tuple[str, ...] = ("seq",)) -> Turns:
    """What a model asks for, without an export of it."""
    model = Wrapped(run, cell=nn.GRUCell(FEATURES, HIDDEN), conv=nn.Conv1d(FEATURES, FEATURES, 3, stride=2)).eval()
    model.most, model.half = 350, 175  # type: ignore[assignment]
    noting = Noting(model)

    def noted(arrays: dict[str, np.ndarray], sized: bool) -> Any:
        tensors = [torch.from_numpy(arrays[item.name]) for item in inputs]
        with torch.no_grad():
            return noting.notes(lambda: model(*tensors), sized=sized)

    job: Any = SimpleNamespace(capture=SimpleNamespace(noted=noted, conditions=()))
    roles = {item.name: "seq" for item in inputs if item is LENGTHS}
    draws = Draws(inputs, roles, {}, {}, {})
    usual, rows = draws.sizes(MEASURED[1]._replace(full=True), 1), rows_of(draws, looped)
    return searched(job, draws, 1, "usual", usual, rows)[1]


def _loop(self: Any, x: Tensor, stop: Callable[[Any], bool]) -> Tensor:
    h = x.new_zeros(x.size(0), HIDDEN)
    for t in range(x.size(1)):
        if stop(t):
            break
        h = self.cell(x[:, t], h)
    return h


def _decorated(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def run(*args: Any) -> Any:
        return function(*args)

    return run


@_decorated
def _behind_a_decorator(self: Any, x: Tensor) -> Tensor:
    return _loop(self, x, lambda t: t >= 350)


def _in_a_closure() -> Callable[..., Tensor]:
    most = 350
    return lambda self, x: _loop(self, x, lambda t: t >= most)


def _of_a_default(self: Any, x: Tensor, most: int = 350) -> Tensor:
    return _loop(self, x, lambda t: most <= t)


def _counted_by_hand(self: Any, x: Tensor) -> Tensor:
    h, t = x.new_zeros(x.size(0), HIDDEN), 0
    while t < x.size(1):
        if t == self.most:
            break
        h = self.cell(x[:, t], h)
        t += 1
    return h


def _enumerated(self: Any, x: Tensor) -> Tensor:
    h = x.new_zeros(x.size(0), HIDDEN)
    for t, step in enumerate(x.unbind(1)):
        h = self.cell(step, h) if t < self.most else h
    return h


def _counted(self: Any, x: Tensor) -> Tensor:
    h, steps = x.new_zeros(x.size(0), HIDDEN), itertools.count()
    for step in x.unbind(1):
        if next(steps) >= self.most:
            break
        h = self.cell(step, h)
    return h


def _outputs(self: Any, x: Tensor) -> Tensor:
    outputs = [x.new_zeros(x.size(0), HIDDEN)]
    for step in x.unbind(1):
        outputs.append(self.cell(step, outputs[-1]))
        if len(outputs) > self.most:
            break
    return torch.stack(outputs, 1)


def _looked_up(self: Any, x: Tensor) -> Tensor:
    h = x.new_zeros(x.size(0), HIDDEN)
    for t in range(x.size(1)):
        h = self.cell(x[:, t], h) * (0.5 if t in SPECIAL else 1.0)
    return h


def _over_a_convolution(self: Any, x: Tensor) -> Tensor:
    return _loop(self, self.conv(x.transpose(1, 2)).transpose(1, 2), lambda t: t == self.half)


STOPS: dict[str, Callable[..., Any]] = {
    "a namespace": lambda self, x: _loop(self, x, lambda t: t >= CONFIGURATION.most),
    "an attribute": lambda self, x: _loop(self, x, lambda t: t == self.most),
    "a product": lambda self, x: _loop(self, x, lambda t: t >= 2 * self.half),
    "seconds": lambda self, x: _loop(self, x, lambda t: t * 0.02 >= 7),
    "a range": lambda self, x: _loop(self, x, lambda t: t in range(350, 360)),
    "bits": lambda self, x: _loop(self, x, lambda t: t | 1 == 351),
    "a closure": _in_a_closure(),
    "a default": _of_a_default,
    "a decorator": _behind_a_decorator,
    "a counter": _counted_by_hand,
    "enumerate": _enumerated,
    "itertools": _counted,
    "outputs": _outputs,
    "a dict": _looked_up,
}


@pytest.mark.parametrize("name", STOPS)
def test_a_step_that_turns_something_is_tried_on_both_sides_and_far_behind(name: str) -> None:
    sizes = {turn.sizes["seq"] for turn in _turns(STOPS[name], X).tried}
    assert {350, 351} <= sizes
    assert max(sizes) >= 700


def test_half_as_many_steps_turn_at_twice_the_size() -> None:
    sizes = {turn.sizes["seq"] for turn in _turns(_over_a_convolution, X).tried}
    assert {352, 353, 354} <= sizes  # (n - 3) // 2 + 1 steps, of which the 176th stops


def test_a_loop_over_the_first_axis_is_tried_there() -> None:
    def run(self: Any, x: Tensor) -> Tensor:
        return _loop(self, x.transpose(0, 1), lambda t: t > self.most)

    assert {351, 352, 353} <= {turn.sizes["seq"] for turn in _turns(run, X_TIME_MAJOR).tried}


def _scaled(test: Callable[..., bool]) -> Callable[..., Any]:
    return lambda _, *tensors: tensors[0] * (2 if test(*tensors) else 1)


BRANCHES: dict[str, tuple[Callable[..., bool], dict[str, int]]] = {
    "a float": (lambda x: x.size(1) * 0.02 > 8, {"seq": 401}),
    "a square": (lambda x: x.shape[1] ** 2 > 90000, {"seq": 301}),
    "a root": (lambda x: math.sqrt(x.size(1)) > 20, {"seq": 401}),
    "ceil": (lambda x: math.ceil(x.size(1) / 8) > 40, {"seq": 321}),
    "numpy": (lambda x: np.ceil(x.size(1) / 8) > 40, {"seq": 321}),
    "rounded": (lambda x: round(x.size(1) / 100) == 4, {"seq": 350}),
    "a remainder": (lambda x: x.size(1) % 5 == 0, {"seq": 20}),
    "the end of a window": (lambda x: 30 <= len(x[0]) <= 100, {"seq": 101}),
    "a product": (lambda x: x.size(0) * x.size(1) > 8192, {"seq": 1639}),
    "rows": (lambda x: x.size(0) * x.size(1) > 8192, {"batch": 432}),
    "elements": (lambda x: x.numel() > 6 * 5 * 500, {"seq": 501}),
    "beyond the grid": (lambda x: x.size(1) > 20000, {"seq": 20001}),
}


@pytest.mark.parametrize("name", BRANCHES)
def test_a_branch_on_a_size_is_tried_where_it_turns(name: str) -> None:
    test, expected = BRANCHES[name]
    tried = [turn.sizes for turn in _turns(_scaled(test), X, looped=()).tried]
    assert any(expected.items() <= sizes.items() for sizes in tried), tried


def test_a_test_behind_a_test_is_tried_where_it_turns() -> None:
    def run(_: Any, x: Tensor) -> Tensor:
        if x.size(1) <= 200:
            return x
        return x * 2 if x.size(1) > 800 else x

    assert {200, 201, 800, 801, 802} <= {turn.sizes["seq"] for turn in _turns(run, X, looped=()).tried}


def test_two_axes_that_turn_something_only_together_are_tried_together() -> None:
    def run(_: Any, x: Tensor, y: Tensor) -> Tensor:
        return x * (2 if x.size(1) * y.size(1) >= 250_000 else 1)

    tried = [turn.sizes for turn in _turns(run, X, Y, looped=()).tried]
    assert any((sizes.get("seq"), sizes.get("other")) == (500, 500) for sizes in tried)


def test_the_longest_length_is_tried_at_the_end_of_its_axis_and_below_it() -> None:
    def run(_: Any, x: Tensor, lengths: Tensor) -> Tensor:
        return x * (2 if int(lengths.max()) * 0.5 > 60 else 1)

    tried = _turns(run, X, LENGTHS, looped=()).tried
    assert {(turn.sizes["seq"], turn.longest) for turn in tried} >= {(120, 120), (121, 121), (124, 121), (242, 242)}
    assert "test_noted_sizes.py" in tried[0].line


def test_an_axis_beside_the_longest_length_is_tried_with_lengths_that_stay() -> None:
    def run(_: Any, x: Tensor, lengths: Tensor) -> Tensor:
        return x * (2 if int(lengths.max()) + 40 < x.size(1) else 1)

    tried = _turns(run, X, LENGTHS, looped=()).tried
    assert ({"seq": 60}, 19) in [(turn.sizes, turn.longest) for turn in tried]


def test_an_axis_holds_up_to_a_size_that_is_too_large_to_try() -> None:
    turns = _turns(lambda self, x: _loop(self, x, lambda t: t >= 100_000), X)
    assert not turns.tried
    assert turns.limits["seq"][0] == 100_000


def test_steps_against_steps_are_tried_as_far_as_they_fit() -> None:
    def run(_: Any, x: Tensor) -> Tensor:
        return (x @ x.transpose(1, 2)).softmax(-1) @ x * (2 if x.size(1) > 20_000 else 1)

    turns = _turns(run, X, looped=())
    assert not turns.tried
    assert turns.limits["seq"][0] == 20_000


def test_a_model_that_asks_nothing_is_tried_nowhere() -> None:
    turns = _turns(lambda self, x: _loop(self, x, lambda _: False), X)
    assert (turns.tried, turns.limits, turns.untried) == ([], {}, [])


def test_code_is_as_it_was_after_it_noted() -> None:
    before = _loop.__code__
    _turns(STOPS["a default"], X)
    assert _loop.__code__ is before
    assert "range" not in globals()
    assert type(math.sqrt(4)) is float


@pytest.mark.parametrize(
    ("values", "at", "expected"),
    [((10, 12, 15, 19), 100, 50), ((17, 21, 27, 35), 100, 98), ((38, 46, 58, 74), 100, 200)],
    ids=["half, rounded up", "two less", "twice"],
)
def test_a_number_follows_the_size_that_gives_it_in_every_run(values: tuple[int, ...], at: int, expected: int) -> None:
    runs = [Comparison("eq", Term(value), Term(expected), "") for value in values]
    found = condition(runs, [{"batch": b, "seq": n} for b, n in ((3, 19), (5, 23), (4, 29), (7, 37))])
    assert found is not None
    assert found.names == ["seq"]
    assert found.at({"batch": 2, "seq": at})


GUARDED: dict[str, tuple[Callable[[Tensor], bool], tuple[int, int]]] = {
    "a float": (lambda x: x.size(1) * 0.02 > 8.0, (400, 401)),
    "a square": (lambda x: x.size(1) ** 2 > 90000, (300, 301)),
    "rounded up": (lambda x: math.ceil(x.size(1) / 8) > 40, (320, 321)),
    "a remainder": (lambda x: x.size(1) % 5 == 0, (24, 25)),
}


@pytest.mark.parametrize("name", GUARDED)
def test_what_the_tracer_took_for_granted_is_a_function_of_the_sizes(name: str) -> None:
    test, (one, other) = GUARDED[name]
    dynamic = torch.export.Dim.AUTO
    program = torch.export.export(
        Wrapped(_scaled(test)),
        (torch.zeros(19, 23, FEATURES),),
        dynamic_shapes=(({0: dynamic, 1: dynamic},),),
        strict=False,
    )
    names = {symbol: "seq" for symbol, size in traced_symbols(program).items() if size == 23}
    (found,) = conditions_of(program, names)
    at = found.at({"seq": np.array([one, other])})
    assert at[0] != at[1]
    assert "test_noted_sizes.py" in found.line


def test_a_number_that_follows_no_size_is_no_condition() -> None:
    runs = [Comparison("eq", Term(value), Term(3), "") for value in (10, 3, 25, 1)]
    assert condition(runs, [{"seq": n} for n in (19, 23, 29, 37)]) is None


def test_a_range_that_notes_is_a_range_to_others() -> None:
    steps = Steps(range(2, 9))
    assert list(reversed(steps)) == list(range(8, 1, -1))
    assert (list(steps[1:3]), len(steps), 4 in steps, steps.stop) == ([3, 4], 7, True, 9)
    assert steps == range(2, 9)


def test_far_sizes_go_to_the_steps_wherever_they_stand() -> None:
    everything: Any = SimpleNamespace(fits=lambda *_: True)
    inputs = (Input("x", ("seq", "batch", FEATURES)), Input("lengths", ("batch",), "int64"))
    draws = Draws(inputs, {"lengths": "seq"}, {}, {}, {})
    assert [turn.sizes for turn in far(draws, ["seq"], (400, 12), everything)] == [
        {"batch": 2, "seq": 307},
        {"batch": 2, "seq": 401},
    ]
    alone = Draws(inputs[:1], {}, {}, {}, {})
    assert far(alone, ["seq"], (), everything)[0].sizes["seq"] == 307
