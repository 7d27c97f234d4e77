"""Runs in place: what is written where, and what is refused before anything is."""

from __future__ import annotations

import gc
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from seqport.runtime import (
    Binding,
    InputDtypeError,
    InputValueError,
    LengthsError,
    OutputBufferError,
    Session,
    cuda,
    pinned,
)
from seqport.runtime.axis_sizes import AxisSizes

from .machines import Pages

SHAPES = {"output": (3, 4, 5), "h_T": (1, 3, 4), "c_T": (1, 3, 4)}


def _inputs(seed: int = 0) -> dict[str, np.ndarray]:
    x = np.random.default_rng(seed).normal(size=(3, 4, 3)).astype(np.float32)
    return {"x": x, "lengths": np.array([4, 1, 3])}


def _buffers() -> dict[str, np.ndarray]:
    return {name: np.full(shape, np.nan, np.float32) for name, shape in SHAPES.items()}


@pytest.fixture
def session(artifact) -> Session:
    return Session(artifact(), "cpu")


@pytest.mark.parametrize("given", [["output"], ["h_T", "c_T"], list(SHAPES)])
def test_run_writes_into_the_callers_arrays(session, given) -> None:
    expected = session.run(_inputs())
    out = {name: array for name, array in _buffers().items() if name in given}
    answers = session.run(_inputs(), out=out)
    assert list(answers) == list(expected)
    for name, value in answers.items():
        np.testing.assert_array_equal(value, expected[name])
        assert not np.shares_memory(value, expected[name])
    assert all(answers[name] is out[name] for name in given)


def test_a_row_of_a_larger_array_takes_an_answer(session) -> None:
    """An embedder's ring buffer: contiguous views are as good as arrays."""
    ring = np.zeros((2, *SHAPES["output"]), np.float32)
    session.run(_inputs(), out={"output": ring[1]})
    assert not ring[0].any()
    np.testing.assert_array_equal(ring[1], session.run(_inputs())["output"])


READ_ONLY = np.zeros(SHAPES["output"], np.float32)
READ_ONLY.flags.writeable = False
FITS = np.zeros(SHAPES["output"], np.float32)


@pytest.mark.parametrize(
    ("out", "said"),
    [
        ({"logits": FITS}, r"out has 'logits', expected outputs of the model: 'output', 'h_T', 'c_T'$"),
        ({"output": FITS.tolist()}, r"out\['output'\] is a list, expected a NumPy array to write into"),
        ({"output": FITS.astype(np.float64)}, r"out\['output'\] is float64, expected float32"),
        ({"output": FITS[0]}, r"out\['output'\] has the shape \[4, 5\], expected \[3, 4, 5\]"),
        ({"output": FITS[..., :4]}, r"out\['output'\] has the shape \[3, 4, 4\], expected \[3, 4, 5\]"),
        ({"output": READ_ONLY}, r"out\['output'\] is read-only, expected a writeable array in C order"),
        (
            {"output": np.zeros((4, 3, 5), np.float32).swapaxes(0, 1)},
            r"out\['output'\] is a view with gaps or in anoth",
        ),
        (
            {"output": np.zeros((3, 7, 5), np.float32)},
            r"out\['output'\] has the shape \[3, 7, 5\], expected \[3, 4, 5\]",
        ),
        (
            {"output": np.zeros((4, 3, 5), np.float32)},
            r"out\['output'\] has the shape \[4, 3, 5\], expected \[3, 4, 5\]",
        ),
    ],
)
@pytest.mark.parametrize("how", ["run", "bind"])
def test_an_array_that_does_not_fit(session, out, said, how, capfd) -> None:
    with pytest.raises(OutputBufferError, match=said):
        if how == "run":
            session.run(_inputs(), out=out)
        else:
            session.bind(_inputs(), out=out).run()
    assert capfd.readouterr() == ("", "")


def test_names_of_axes_in_a_plain_file_prove_nothing(tmp_path) -> None:
    sides = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", "seq"]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Concat", ["x", "x"], ["y"], axis=1)], "twice", sides[:1], sides[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), tmp_path / "m.onnx")
    out = np.empty((2, 6), np.float32)
    assert Session(tmp_path / "m.onnx", "cpu").run({"x": np.ones((2, 3), np.float32)}, out={"y": out})["y"] is out
    assert out.all()


def test_an_answer_that_is_cut_to_the_longest_row(artifact) -> None:
    """Its axis is named after the lengths."""
    session = Session(artifact(), "cpu")
    axes = (("batch", "max_lengths", 5), ("batch", "seq", 5), ("batch", "other"))
    sizes = AxisSizes(session.description.inputs)
    feed = {**_inputs(), "lengths": np.array([2, 1, 2])}
    assert [sizes.shape(one, feed) for one in axes] == [(3, 2, 5), (3, 4, 5), (3, "other")]
    assert [sizes.follow(one) for one in axes] == [True, True, False]


def test_arrays_that_overlap(session) -> None:
    memory = np.zeros(200, np.float32)
    x, states = memory[:36].reshape(3, 4, 3), memory[30:42].reshape(1, 3, 4)
    with pytest.raises(OutputBufferError, match=r"out\['h_T'\] shares memory with input 'x'"):
        session.run({**_inputs(), "x": x}, out={"h_T": states})
    with pytest.raises(OutputBufferError, match=r"out\['c_T'\] shares memory with out\['h_T'\]"):
        session.run(_inputs(), out={"h_T": states, "c_T": states})


@pytest.mark.parametrize("given", [[], ["output"], list(SHAPES)])
def test_a_binding_reads_and_writes_in_place(session, given) -> None:
    mine = _inputs()
    out = {name: array for name, array in _buffers().items() if name in given}
    binding = session.bind(mine, out=out)
    assert isinstance(binding, Binding)
    assert all(binding.inputs[name] is array for name, array in mine.items()), "no copy of what is right"
    before = dict(binding.outputs)
    for seed in (0, 1, 2):
        binding.inputs["x"][...] = _inputs(seed)["x"]
        binding.inputs["lengths"][...] = [1 + seed, 4, 2]
        answers = binding.run()
        expected = session.run({"x": _inputs(seed)["x"], "lengths": np.array([1 + seed, 4, 2])})
        for name, value in answers.items():
            np.testing.assert_array_equal(value, expected[name])
            assert value is before[name]
    assert all(before[name] is out[name] for name in given)


def test_a_binding_copies_what_is_not_in_order(session) -> None:
    given = {**_inputs(), "x": np.asfortranarray(_inputs()["x"])}
    binding = session.bind(given)
    assert binding.inputs["x"].flags.c_contiguous
    np.testing.assert_array_equal(binding.run()["output"], session.run(_inputs())["output"])
    binding.inputs["x"][...] = _inputs(1)["x"]
    np.testing.assert_array_equal(binding.run()["output"], session.run(_inputs(1))["output"])


def test_a_binding_checks_values_at_every_run(artifact) -> None:
    session = Session(artifact(vocab_size=6), "cpu")
    binding = session.bind({"ids": np.zeros((2, 3), np.int64), "lengths": np.array([3, 1])})
    binding.inputs["lengths"][0] = 4
    with pytest.raises(LengthsError, match="'lengths' row 0 is 4, expected 1 to 3"):
        binding.run()
    binding.inputs["lengths"][0] = 3
    binding.inputs["ids"][0, 0] = 6
    with pytest.raises(InputValueError, match="idx=6"):
        binding.run()
    with pytest.raises(InputValueError, match="idx=6"):
        session.bind(binding.inputs)


def test_strings_and_shapes_that_follow_values(tmp_path) -> None:
    inputs = [
        helper.make_tensor_value_info("text", TensorProto.STRING, ["n"]),
        helper.make_tensor_value_info("keep", TensorProto.BOOL, ["n"]),
    ]
    outputs = [
        helper.make_tensor_value_info("same", TensorProto.STRING, None),
        helper.make_tensor_value_info("kept", TensorProto.INT64, None),
    ]
    nodes = [helper.make_node("Identity", ["text"], ["same"]), helper.make_node("NonZero", ["keep"], ["kept"])]
    graph = helper.make_graph(nodes, "any", inputs, outputs)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), tmp_path / "m.onnx")
    session = Session(tmp_path / "m.onnx", "cpu")
    feed = {"text": np.array(["a", "b"], object), "keep": np.array([True, False])}
    with pytest.raises(OutputBufferError, match="output 'same' is string, which no array of numbers can take"):
        session.run(feed, out={"same": np.empty(2, object)})
    with pytest.raises(InputDtypeError, match="input 'text' is object, and only arrays of numbers can be bound"):
        session.run(feed, out={"kept": np.empty((1, 1), np.int64)})
    del graph.node[0], graph.input[0], graph.output[0]
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), tmp_path / "k.onnx")
    binding = Session(tmp_path / "k.onnx", "cpu").bind({"keep": np.array([True, False])})
    binding.inputs["keep"][...] = True
    with pytest.raises(OutputBufferError, match=r"'kept' came out as \[1, 2\], and its buffer has the shape \[1, 1\]"):
        binding.run()


def test_each_thread_has_its_binding(session) -> None:
    bindings = [session.bind(_inputs(seed)) for seed in range(8)]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(20):
            list(pool.map(Binding.run, bindings))
    for seed, binding in enumerate(bindings):
        np.testing.assert_array_equal(binding.outputs["output"], session.run(_inputs(seed))["output"])


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="resident memory is read from /proc")
@pytest.mark.parametrize("call", ["run(feed)", "run(feed, out=out)", "bind(feed, out=out).run()"])
def test_no_copy_of_input_that_is_already_right(tmp_path, call) -> None:
    """A gigabyte that nobody has touched takes no memory, until somebody copies it."""
    graph = helper.make_graph(
        [helper.make_node("Shape", ["x"], ["shape"])],
        "shape",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", "seq", 64])],
        [helper.make_tensor_value_info("shape", TensorProto.INT64, [3])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), tmp_path / "m.onnx")
    code = f"""
import resource, sys
import numpy as np
from seqport.runtime import Session
session = Session(sys.argv[1], "cpu")
feed, out = {{"x": np.zeros((4, 1 << 20, 64), np.float32)}}, {{"shape": np.zeros(3, np.int64)}}
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
assert session.{call}["shape"].tolist() == [4, 1 << 20, 64]
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "m.onnx")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 50, "MiB"


def _on_gpu(session: Session) -> Session:
    session._device = 1  # it still runs on the CPU, from and into the driver's memory
    return session


def test_buffers_for_a_gpu_are_page_locked(session, monkeypatch) -> None:
    driver = Pages()
    monkeypatch.setattr(cuda, "_load", lambda _name: driver)
    mine, out = _inputs(), {"output": np.zeros(SHAPES["output"], np.float32)}
    expected = session.run(mine)
    binding = _on_gpu(session).bind(mine, out=out)
    locked = [*binding.inputs.values(), binding.outputs["h_T"], binding.outputs["c_T"]]
    assert {array.ctypes.data for array in locked} == driver.held
    assert binding.outputs["output"] is out["output"], "the caller's own memory, as it was asked for"
    assert (driver.contexts, driver.retained) == (0, 0), "whatever was current before is current again"
    mine["x"][...] = 0
    for name, value in binding.run().items():
        np.testing.assert_array_equal(value, expected[name])
    view = binding.outputs["h_T"][0, 1:]
    del binding, locked, value
    gc.collect()
    assert len(driver.held) == 1, "a view keeps its memory"
    np.testing.assert_array_equal(view, expected["h_T"][0, 1:])
    del view
    gc.collect()
    assert not driver.held


def test_inputs_are_bound_anew_at_each_run_on_a_gpu(session, monkeypatch) -> None:
    """ONNX Runtime copies them there when they are bound."""
    monkeypatch.setattr(cuda, "_load", lambda _name: Pages())
    binding = _on_gpu(session).bind(_inputs())
    bound: list[str] = []
    monkeypatch.setattr(binding._binding, "bind_cpu_input", lambda name, _array: bound.append(name))
    binding.run()
    binding.run()
    assert bound == ["x", "lengths"] * 2


@pytest.mark.parametrize("fails", ["cuInit", "cuMemHostAlloc"])
def test_where_no_memory_can_be_locked_ordinary_memory_serves(session, monkeypatch, fails) -> None:
    driver = Pages(fails)
    monkeypatch.setattr(cuda, "_load", lambda _name: driver)
    expected = session.run(_inputs())["output"]
    np.testing.assert_array_equal(_on_gpu(session).bind(_inputs()).run()["output"], expected)
    assert not driver.held


def test_nor_where_there_is_no_driver(session, monkeypatch) -> None:
    def load(name):
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(cuda, "_load", load)
    expected = session.run(_inputs())["output"]
    np.testing.assert_array_equal(_on_gpu(session).bind(_inputs()).run()["output"], expected)


def test_page_locked_arrays_of_any_shape(monkeypatch) -> None:
    driver = Pages()
    monkeypatch.setattr(cuda, "_load", lambda _name: driver)
    for shape in ((), (0, 3), (2, 3, 4)):
        for dtype in (np.dtype(np.float32), np.dtype(np.bool_), np.dtype(np.int64)):
            array = pinned.pinned_empty(shape, dtype, 1)
            array[...] = 1
            assert (array.shape, array.dtype, array.flags.c_contiguous) == (shape, dtype, True)
