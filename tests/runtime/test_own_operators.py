"""Seqport's operators answer as ONNX Runtime's own nodes, to the last bit, whatever the sizes and whoever computes."""

from __future__ import annotations

import functools
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument

from seqport.runtime import kernels
from seqport.runtime.host import Host
from seqport.runtime.opening import CPU_PROVIDER, open_session
from seqport.runtime.rewriting.own_layers import CELLS
from seqport.runtime.threads import Threads

from .own_layers import (
    DIRECTIONS,
    RAGGED,
    Layer,
    answers,
    opened,
    own,
    require_onnxruntime,
    require_same,
    widths,
    without,
)
from .recurrent_graphs import run

pytestmark = pytest.mark.skipif(kernels.library() is None, reason=kernels.NOT_BUILT)

BATCHES = {1: ([4], 4), 2: ([5, 2], 7), 3: ([6, 0, 3], 6), 7: (RAGGED, 9), 33: ([1 + i * i % 8 for i in range(33)], 8)}
SIZES = [(1, 1), (3, 5), (300, 16), (3, 20), (1, 64), (3, 100), (300, 300)]


@pytest.mark.parametrize(("input_dim", "hidden"), SIZES)
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("cell", CELLS)
def test_every_cell_answers_to_the_last_bit(cell: str, direction: str, input_dim: int, hidden: int) -> None:
    layer = Layer(cell, direction, input_dim, hidden)
    sessions = [opened(layer.model(), threads, width) for width, threads in zip(widths(), (3, 2), strict=False)]
    require_onnxruntime(layer, sessions, *(layer.feed(*batch) for batch in BATCHES.values()))


@pytest.mark.parametrize("given", [(), ("lengths",), ("h_0",), ("c_0",), ("lengths", "c_0"), ("h_0", "c_0")], ids=str)
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("cell", CELLS)
def test_lengths_and_states_may_be_left_out(cell: str, direction: str, given: tuple[str, ...]) -> None:
    layer = Layer(cell, direction, given=given)
    batches = [
        layer.feed(lengths, steps) for lengths, steps in (*BATCHES.values(), ([4] * 7, 4), ([1], 1), ([1] * 3, 1))
    ]
    require_onnxruntime(layer, [opened(layer.model())], *batches)


# What `plan_of` (runs.c) makes of two threads and of three, for every cell.
WAYS = {
    "one thread alone": (20, [4, 2, 3], 4),
    "rows split among threads": (128, [30] * 12 + [7] * 21, 30),
    "all threads share each step": (300, [100], 100),
    "they share the steps of more rows than a tile has": (300, [40] * 2 + [1] * 6, 40),
}


@pytest.mark.parametrize(("hidden", "lengths", "steps"), WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
@pytest.mark.parametrize("cell", CELLS)
def test_work_is_shared_without_a_trace(cell: str, direction: str, hidden: int, lengths: list[int], steps: int) -> None:
    layer = Layer(cell, direction, 5, hidden)
    feed = layer.feed(lengths, steps)
    alone = opened(layer.model())
    require_onnxruntime(layer, [alone], feed)
    expected = answers(alone, feed)
    for threads in (2, 3):
        for width in widths():
            require_same(answers(opened(layer.model(), threads, width), feed), expected)


@pytest.mark.parametrize("cell", CELLS)
def test_a_row_does_not_depend_on_its_batch(cell: str) -> None:
    layer = Layer(cell, "bidirectional", 5, 40)
    lengths = [1 + i * 7 % 30 for i in range(33)]
    feed = layer.feed(lengths, 30)
    together = answers(opened(layer.model(), 3, widths()[-1]), feed)
    alone = opened(layer.model(), 1, widths()[0])
    for row in range(33):
        steps = lengths[row]
        single = {name: value[..., row : row + 1, :] for name, value in feed.items() if name != "lengths"}
        found = answers(alone, {**single, "x": single["x"][:steps], "lengths": feed["lengths"][row : row + 1]})
        expected = {name: value[..., row : row + 1, :] for name, value in together.items()}
        expected["Y"] = expected["Y"][:steps]
        require_same(found, {name: np.ascontiguousarray(value) for name, value in expected.items()})


@pytest.mark.parametrize("cell", CELLS)
def test_batches_of_any_shape(cell: str) -> None:
    layer = Layer(cell, "bidirectional", 7, 36)
    sessions = [opened(layer.model(), threads, width) for threads in (1, 3) for width in widths()]
    random = np.random.default_rng(5)
    for seed in range(12):
        rows, steps = int(random.integers(1, 90)), int(random.integers(1, 25))
        lengths = np.sort(random.integers(0, steps + 1, rows)) if seed % 3 == 0 else random.integers(1, steps + 1, rows)
        lengths[random.integers(rows)] = steps
        require_onnxruntime(layer, sessions, layer.feed(lengths.tolist(), steps, seed))


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("given", [("lengths", "h_0", "c_0"), ()], ids=str)
def test_a_batch_may_have_no_steps_or_no_rows(cell: str, direction: str, given: tuple[str, ...]) -> None:
    layer = Layer(cell, direction, given=given)
    D, H = layer.num_directions, layer.hidden
    for threads in (1, 2):
        session = opened(layer.model(), threads)
        feed = layer.feed([0] * 4, 0)
        found = answers(session, feed)
        assert found["Y"].shape == (0, D, 4, H)
        for output, state in zip(("Y_h", "Y_c"), layer.states, strict=False):
            np.testing.assert_array_equal(found[output], feed.get(state, np.zeros((D, 4, H), np.float32)))
        found = answers(session, layer.feed([], 3))
        assert found.pop("Y").shape == (3, D, 0, H)
        assert {value.shape for value in found.values()} == {(D, 0, H)}


@pytest.mark.parametrize("cell", CELLS)
def test_rows_of_no_steps_keep_their_states(cell: str) -> None:
    layer = Layer(cell, "bidirectional")
    for threads in (1, 2):
        require_onnxruntime(layer, [opened(layer.model(), threads)], layer.feed([0, 3, 0, 0, 5, 0], 6))
        found, feed = answers(opened(layer.model(), threads), layer.feed([0, 0], 4)), layer.feed([0, 0], 4)
        assert not found["Y"].any()
        np.testing.assert_array_equal(found["Y_h"], feed["h_0"])


@pytest.mark.parametrize("scale", [1e-42, 1e-30, 30.0, 1e30], ids=str)
@pytest.mark.parametrize("cell", ["GRU reset after", "GRU reset before", "LSTM"])
def test_numbers_of_any_size_answer_to_the_last_bit(cell: str, scale: float) -> None:
    """Gates that are wide open or shut among them, where the approximations have to be cut off."""
    layer = Layer(cell, "bidirectional")
    feed = layer.feed([6, 4, 6, 1], 6)
    feed["x"][:, 1:] *= np.float32(scale)
    feed["h_0"][:, 2:] *= np.float32(scale)
    require_onnxruntime(layer, [opened(layer.model(), vectors=width) for width in widths()], feed)


# More than the cache should hold.
MUCH = {
    "bit by bit": ([3] * 20 + [100] * 4 + [0] * 3 + [400] * 12 + [700], 700),
    "mostly at the end": ([3] * 39 + [700], 700),
    "nothing but padding": ([0] * 40, 700),
}


@pytest.mark.parametrize(("lengths", "steps"), MUCH.values(), ids=MUCH)
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("cell", CELLS)
def test_much_padding_is_zero_too(cell: str, direction: str, lengths: list[int], steps: int) -> None:
    """Rows begin where no vector does, and memory has what a full batch left there."""
    layer = Layer(cell, direction, hidden=101, given=("lengths",))
    sessions = [opened(layer.model(), threads, width) for width, threads in zip(widths(), (2, 1), strict=False)]
    full = layer.feed([steps] * len(lengths), steps)
    require_onnxruntime(layer, sessions, full, layer.feed(lengths, steps))


@pytest.mark.parametrize("cell", CELLS)
def test_much_padding_is_zero_where_threads_share_each_step(cell: str) -> None:
    layer = Layer(cell, "bidirectional", hidden=201, given=("lengths",))
    batches = [layer.feed(lengths, 12_000) for lengths in ([12_000] * 2, [12_000, 5])]
    require_onnxruntime(layer, [opened(layer.model(), threads=2)], *batches)


@pytest.mark.parametrize("number", [np.inf, np.nan], ids=str)
@pytest.mark.parametrize("cell", CELLS)
def test_what_is_no_number_reaches_no_other_row_and_no_earlier_step(cell: str, number: float) -> None:
    layer = Layer(cell)
    feed = layer.feed([6] * 3, 6)
    whole = answers(opened(layer.model()), feed)
    feed["x"][2, 1] = number
    for width in widths():
        found = answers(opened(layer.model(), 2, width), feed)
        require_same(without(found, [1]), without(whole, [1]))
        np.testing.assert_array_equal(found["Y"][:2], whole["Y"][:2])
    if layer.op_type != "RNN":
        require_onnxruntime(layer, [opened(layer.model(), vectors=width) for width in widths()], feed)


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("cell", CELLS)
def test_a_list_answers_as_the_padded_batch(cell: str, direction: str) -> None:
    layer = Layer(cell, direction)
    feed, valid = layer.feed(RAGGED, 9), np.arange(9) < np.array(RAGGED)[:, None]
    steps = np.ascontiguousarray(feed["x"].swapaxes(0, 1)[valid][:, None])
    for threads in (1, 2):
        session = opened(layer.model(), threads)
        expected = answers(session, feed)
        expected["Y"] = np.ascontiguousarray(expected["Y"].transpose(2, 0, 1, 3)[valid][:, :, None])
        require_same(answers(session, {**feed, "x": steps}), expected)


WRONG = {
    "a length above the steps": ({"lengths": [3, 7]}, "sequence_lens is 7 for row 1, expected 0 to 6"),
    "a negative length": ({"lengths": [-1, 6]}, "sequence_lens is -1 for row 0, expected 0 to 6"),
    "the least length": ({"lengths": [2, -(2**31)]}, "sequence_lens is -2147483648 for row 1, expected 0 to 6"),
    "too few lengths": ({"lengths": [3]}, "sequence_lens is expected to have one number for each of 2 rows"),
    "too many lengths": ({"lengths": [3, 3, 3]}, "sequence_lens is expected to have one number for each of 2 rows"),
    "no lengths": ({"lengths": []}, "sequence_lens is expected to have one number for each of 2 rows"),
    "lengths in a matrix": ({"lengths": [[3, 3]]}, r"sequence_lens is expected to be \[B\]"),
    "more features": ({"x": np.zeros((6, 2, 4))}, "a recurrent layer takes 3 features, but got 4"),
    "fewer features": ({"x": np.zeros((6, 2, 2))}, "a recurrent layer takes 3 features, but got 2"),
    "an axis too few": ({"x": np.zeros((6, 3))}, "a recurrent layer takes"),
    "an axis too many": ({"x": np.zeros((1, 6, 2, 3))}, "a recurrent layer takes"),
    "a state of more rows": ({"h_0": np.zeros((1, 3, 20))}, "initial_h must have shape {1,2,20}"),
    "a state of more units": ({"c_0": np.zeros((1, 2, 21))}, "initial_c must have shape {1,2,20}"),
    "a state of two directions": ({"h_0": np.zeros((2, 2, 20))}, "must have shape {1,2,20}"),
    "a state without its directions": ({"h_0": np.zeros((2, 20))}, "must have shape {1,2,20}"),
}


@pytest.mark.parametrize(("wrong", "message"), WRONG.values(), ids=WRONG)
def test_what_does_not_fit_is_refused(wrong: dict, message: str) -> None:
    layer = Layer()
    session, right = opened(layer.model(), 2), layer.feed([6, 2], 6)
    bad = {name: np.array(value, right[name].dtype) for name, value in wrong.items()}
    for _ in range(3):
        with pytest.raises(InvalidArgument, match=message):
            session.run(None, {**right, **bad})
        require_onnxruntime(layer, [session], right)


@pytest.mark.parametrize("cell", CELLS)
def test_many_callers_share_a_session(cell: str) -> None:
    layer = Layer(cell, "bidirectional", 5, 150)
    session = opened(layer.model(), 2)
    random = np.random.default_rng(1)
    batches = [layer.feed(random.integers(0, 9, rows).tolist(), 8, rows) for rows in (1, 2, 7, 33, 60)] * 3
    batches += [layer.feed([60], 60, seed) for seed in range(3)]  # steps are shared too
    expected = [answers(session, feed) for feed in batches]
    with ThreadPoolExecutor(6) as pool:
        for _ in range(3):
            for found, theirs in zip(pool.map(functools.partial(answers, session), batches), expected, strict=True):
                require_same(found, theirs)


def test_outputs_that_nobody_reads_are_not_made() -> None:
    layer = Layer("LSTM", "bidirectional")
    feed = layer.feed(RAGGED, 9)
    expected = run(layer.model(), feed)
    for kept in (["Y"], ["Y_h"], ["Y_c"], ["Y_c", "Y"], ["Y_h", "Y_c"]):
        model = layer.model()
        values = [value for name in kept for value in model.graph.output if value.name == name]
        del model.graph.output[:]
        model.graph.output.extend(values)
        (node,) = own(model).graph.node
        assert sorted(filter(None, node.output)) == sorted(kept)
        for threads in (1, 2):
            require_same(answers(opened(model, threads), feed), {name: expected[name] for name in kept})


def test_a_layer_of_another_machine_is_refused() -> None:
    model = own(replace(Layer(), cell="GRU reset after").model(), vectors=8)
    next(a for a in model.graph.node[0].attribute if a.name == "cell").i = len(CELLS)
    with pytest.raises(Exception, match="this processor or this version of seqport does not know such a layer"):
        open_session(model.SerializeToString(), Host(Threads(1)), CPU_PROVIDER, operators=kernels.library())
