"""Which batches a session runs packed, and when it makes itself ready for that."""

from __future__ import annotations

import gc
import threading
import weakref
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import seqport.runtime.layer_costs as layer_costs
import seqport.runtime.packing_choice as packing_choice
import seqport.runtime.rewriting.lengths as lengths_module
from seqport.runtime import PackingError, Session
from seqport.runtime.artifact import METADATA_KEY, Description, RecurrentInfo, SequenceInfo, TensorInfo
from seqport.runtime.layer_costs import ROWS, BatchCost, LayerCost
from seqport.runtime.packing_choice import Choice
from seqport.runtime.rewriting.machine import rewrite

from .recurrent_graphs import Form, feed_of, model_of, run

RAGGED = ([30] + [2] * 40, 30)


def batch(steps: int, *lengths: int) -> dict[str, np.ndarray]:
    x = np.random.default_rng(0).standard_normal((len(lengths), steps, 3), np.float32)
    return {"x": x, "lengths": np.array(lengths)}


def masked_model(folder: Path):
    """A described model whose lengths are sums of a mask, and what feeds it."""
    form = Form("LSTM")
    model = model_of(form)
    model.graph.input[1].CopyFrom(helper.make_tensor_value_info("mask", onnx.TensorProto.BOOL, ["B", "T"]))
    counted = [
        helper.make_node("Cast", ["mask"], ["whole"], to=onnx.TensorProto.INT64),
        helper.make_node("ReduceSum", ["whole", "one"], ["lengths"], keepdims=0),
    ]
    for place, node in enumerate(counted):
        model.graph.node.insert(place, node)
    model.graph.initializer.append(numpy_helper.from_array(np.array([1]), "one"))
    outputs = tuple(TensorInfo(o.name, "float32", ("B",)) for o in model.graph.output)
    description = Description(
        inputs=(TensorInfo("x", "float32", ("B", "T", 5)), TensorInfo("mask", "bool", ("B", "T"))),
        outputs=outputs,
        sequences=(SequenceInfo("T", "B", None, {"x": 1, "mask": 1}, {"y": 1}),),
        recurrent=(RecurrentInfo("layer0", "LSTM", "layer0", "forward", 6, "mask", "zero"),),
        opset=18,
    )
    helper.set_model_props(model, {METADATA_KEY: description.to_json()})
    onnx.save(model, folder / "masked.onnx")

    def feeds(rows: int, steps: int) -> dict[str, np.ndarray]:
        x = np.random.default_rng(0).standard_normal((rows, steps, 5), np.float32)
        return {"x": x, "mask": np.ones((rows, steps), bool)}

    return folder / "masked.onnx", feeds


def spied(session: Session, inputs: dict[str, np.ndarray]) -> str:
    """Which form a batch ran in."""
    choice = session._model._choice
    assert choice is not None
    chosen = choice.session_for(inputs)
    return "packed" if chosen is choice.packed else "plain"


@pytest.fixture
def steady(monkeypatch, request) -> None:
    """A machine where a run costs 1 µs for each step of a row that it computes, and packed 20 µs more."""
    from seqport.runtime import packed_form
    from seqport.runtime.rewriting import measure

    def settle(probes: list) -> None:
        for probe in probes:
            lengths = probe.feed["lengths"]
            computed = lengths.sum() if probe.feed.get("increment", 1) < 1 else lengths.max() * len(lengths)
            probe.seconds = 1e-6 * int(computed) + 2e-5 * ("increment" in probe.feed)

    monkeypatch.setattr(measure, "_settle", settle)
    request.addfinalizer(packed_form.measure_with.cache_clear)
    packed_form.measure_with.cache_clear()


@pytest.mark.usefixtures("steady")
def test_auto_packs_what_has_padding_and_only_that(artifact) -> None:
    session = Session(artifact("lstm"), "cpu", kernels="onnxruntime")
    assert spied(session, batch(30, *[30] * 41)) == "plain"
    assert session._model._choice is not None
    assert session._model._choice.packed is None  # nothing to gain yet, nothing made
    assert spied(session, batch(30, 30)) == "plain"
    assert session._model._choice.packed is None
    for _ in range(2):
        assert spied(session, batch(300, 300, *[2] * 400)) == "packed"
        assert spied(session, batch(300, *[300] * 400)) == "plain"
        assert spied(session, batch(1, 1)) == "plain"
    assert session.packing_note == ""


@pytest.mark.usefixtures("steady")
@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
@pytest.mark.parametrize("directions", [1, 2])
def test_all_ways_answer_alike(artifact, cell: str, directions: int) -> None:
    path = artifact(cell, directions=directions)
    inputs = batch(30, 30, *[2] * 20, 17, 9)
    expected = Session(path, "cpu", kernels="onnxruntime", packing="off").run(inputs)
    for packing in ("on", "auto"):
        session = Session(path, "cpu", kernels="onnxruntime", packing=packing)
        assert spied(session, inputs) == "packed"
        for name, value in session.run(inputs).items():
            np.testing.assert_allclose(value, expected[name], rtol=1e-5, atol=2e-6)


def test_on_is_ready_at_once_and_packs_everything(artifact) -> None:
    session = Session(artifact("lstm"), "cpu", kernels="onnxruntime", packing="on")
    assert spied(session, batch(3, 3)) == "packed"


def test_off_never_packs(artifact) -> None:
    session = Session(artifact("lstm"), "cpu", kernels="onnxruntime", packing="off")
    assert session._model._choice is None
    session.run(batch(300, 300, *[2] * 400))


@pytest.mark.usefixtures("steady")
def test_many_weights_are_held_once(artifact, monkeypatch) -> None:
    monkeypatch.setattr(packing_choice, "HELD_TWICE", 0)
    session = Session(artifact("lstm"), "cpu", kernels="onnxruntime")
    before = session._model.session
    inputs = batch(300, 300, *[2] * 400)
    expected = before.run(None, inputs)
    answer = session.run(inputs)
    assert session._model.session is not before
    assert session._model._choice is not None
    assert session._model.session is session._model._choice.packed
    for value, other in zip(answer.values(), expected, strict=True):
        np.testing.assert_array_equal(value, other)
    assert spied(session, batch(4, 4)) == "packed"  # there is no other form any more


@pytest.mark.usefixtures("steady")
def test_a_plain_onnx_file_is_packed_too(tmp_path: Path) -> None:
    form = Form("LSTM", 2, "bidirectional")
    model = model_of(form)
    onnx.save(model, tmp_path / "m.onnx")
    session = Session(tmp_path / "m.onnx", "cpu", kernels="onnxruntime")
    feed = feed_of(form, [300] + [2] * 400, 300)
    for name, value in session.run(feed).items():
        np.testing.assert_array_equal(value, run(model, feed)[name])
    assert spied(session, feed) == "packed"


def test_external_weights_are_found(tmp_path: Path) -> None:
    form = Form("LSTM", 2, "bidirectional")
    model = model_of(form)
    feed = feed_of(form, *RAGGED)
    expected = run(model, feed)
    onnx.save(model, tmp_path / "m.onnx", save_as_external_data=True, location="m.data", size_threshold=100)
    for name, value in Session(tmp_path / "m.onnx", "cpu", kernels="onnxruntime", packing="on").run(feed).items():
        np.testing.assert_array_equal(value, expected[name])


def test_what_cannot_be_packed_is_said(tmp_path: Path, artifact) -> None:
    form = Form("LSTM")
    model = model_of(form)
    next(node for node in model.graph.node if node.op_type == "LSTM").input[4] = ""
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(PackingError, match=r"m\.onnx cannot be packed: no recurrent layer of it takes lengths"):
        Session(tmp_path / "m.onnx", "cpu", kernels="onnxruntime", packing="on")
    session = Session(tmp_path / "m.onnx", "cpu", kernels="onnxruntime")
    session.run(feed_of(form, *RAGGED))
    assert "no recurrent layer of it takes lengths" in session.packing_note
    with pytest.raises(PackingError, match='packing is \'yes\', expected "auto", "on" or "off"'):
        Session(artifact("lstm"), "cpu", kernels="onnxruntime", packing="yes")


@pytest.mark.usefixtures("steady")
def test_computed_lengths_are_counted_first(tmp_path: Path) -> None:
    path, feeds = masked_model(tmp_path)
    session = Session(path, "cpu", kernels="onnxruntime")
    assert spied(session, feeds(rows=2, steps=3)) == "plain"
    assert spied(session, feeds(rows=1, steps=400)) == "plain"
    full = feeds(rows=80, steps=100)
    assert spied(session, full) == "plain"
    ragged = {**full, "mask": np.arange(100) < np.where(np.arange(80) < 2, 100, 5)[:, None]}
    assert spied(session, ragged) == "packed"
    plain = Session(path, "cpu", kernels="onnxruntime", packing="off").run(ragged)
    for name, value in session.run(ragged).items():
        np.testing.assert_array_equal(value, plain[name])


@pytest.mark.usefixtures("steady")
def test_lengths_that_are_much_work_are_packed_where_that_costs_nothing(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(lengths_module, "_FEW", 0)
    path, feeds = masked_model(tmp_path)
    session = Session(path, "cpu", kernels="onnxruntime")
    assert spied(session, feeds(rows=2, steps=3)) == "plain"
    assert spied(session, feeds(rows=1, steps=400)) == "plain"
    assert spied(session, feeds(rows=80, steps=100)) == "packed"


def test_rewritten_weights_are_not_kept_as_bytes(artifact) -> None:
    session = Session(artifact("lstm"), "cpu", kernels="onnxruntime", packing="on")
    choice = session._model._choice
    assert choice is not None and choice.packed is not None
    assert choice.packed._model_bytes is None


@pytest.mark.usefixtures("steady")
@pytest.mark.parametrize("packed_first", [True, False])
def test_streams_and_many_weights_are_held_once(artifact, monkeypatch, packed_first: bool) -> None:
    monkeypatch.setattr(packing_choice, "HELD_TWICE", 0)
    session = Session(artifact("lstm"), "cpu", kernels="onnxruntime")
    inputs = batch(300, 300, *[2] * 400)
    if packed_first:
        session.run(inputs)
    session.stream()
    session.run(inputs)
    assert session._model._choice is not None
    assert session._model._choice.packed is None
    assert session.packing_note.startswith("the session streams, and holds its 0 MB of weights once")
    assert spied(session, inputs) == "plain"


def test_a_session_that_nobody_holds_is_freed(artifact) -> None:
    session = Session(artifact("lstm"), "cpu", kernels="onnxruntime", packing="on")
    model = weakref.ref(session._model)
    del session
    gc.collect()
    assert model() is None


def test_an_empty_vector_is_no_batch_to_pack(artifact) -> None:
    choice = Session(artifact("lstm"), "cpu", kernels="onnxruntime", packing="off")._model
    plain = Choice(choice.session, lambda: "never", None)
    assert plain.session_for({"lengths": np.zeros(0, np.int64)}) is choice.session
    assert plain.note == ""


def test_a_form_that_cannot_be_made_leaves_the_file(artifact, monkeypatch) -> None:
    from seqport.runtime import packed_form

    def fails(*_args):
        raise RuntimeError("no room")

    monkeypatch.setattr(packed_form, "packed_form", fails)
    inputs = batch(300, 300, *[2] * 400)
    session = Session(artifact("lstm"), "cpu", kernels="onnxruntime")
    assert set(session.run(inputs)) == {"output", "h_T", "c_T"}
    assert session.packing_note == "RuntimeError: no room"
    with pytest.raises(PackingError, match="cannot be packed: RuntimeError: no room"):
        Session(artifact("lstm"), "cpu", kernels="onnxruntime", packing="on")


def test_many_threads_prepare_once_and_answer_alike(artifact, monkeypatch) -> None:
    from seqport.runtime import packed_form

    made = []
    real = packed_form.packed_form
    monkeypatch.setattr(packed_form, "packed_form", lambda *args: made.append(1) or real(*args))
    session = Session(artifact("lstm"), "cpu", kernels="onnxruntime")
    inputs = batch(300, 300, *[2] * 400)
    expected = session._model.session.run(None, inputs)[0]
    answers: list[np.ndarray] = []
    start = threading.Barrier(6)

    def work() -> None:
        start.wait()
        answers.extend(next(iter(session.run(inputs).values())) for _ in range(5))

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 30
    for answer in answers:
        np.testing.assert_array_equal(answer, expected)
    assert made == [1]


def cost(call: float = 0.0, piece: float = 1.0) -> BatchCost:
    """A layer where each row's step costs 1 either way."""
    return BatchCost([LayerCost(tuple(float(rows) for rows in ROWS), call, 0.0, 1.0, piece)])


def test_packing_pays_where_it_saves_more_than_it_costs() -> None:
    assert cost().packing_pays(rows=32, steps=100, total=1000)
    assert not cost().packing_pays(rows=32, steps=100, total=3200)
    assert not cost(call=2300).packing_pays(rows=32, steps=100, total=1000)
    assert not cost(piece=1e4).packing_pays(rows=32, steps=100, total=3100)
    assert not cost().packing_pays(rows=1, steps=100, total=100)


def test_what_is_laid_out_again_counts() -> None:
    dear = BatchCost([LayerCost(tuple(float(rows) for rows in ROWS), 0.0, 0.0, 1.0, 1.0, cell=0.8)])
    assert not dear.packing_pays(rows=32, steps=100, total=1000)


def test_what_the_node_leaves_out_itself_is_not_saved() -> None:
    padded = tuple(float(rows) for rows in ROWS)
    wasteful, thrifty = (
        BatchCost([LayerCost(padded, 300.0, 0.0, 1.0, 1e-3, ended=ended)]) for ended in (padded, (1.0, 1.5, 7.0))
    )
    assert wasteful.packing_pays(64, 100, 3200)
    assert not thrifty.packing_pays(64, 100, 3200)


def test_a_step_costs_whatever_its_rows() -> None:
    cheap, dear = (
        BatchCost([LayerCost(tuple(float(rows) for rows in ROWS), 0.0, step, 1.0, 1e-3)]) for step in (0.0, 50.0)
    )
    assert cheap.packing_pays(64, 100, 3200)
    assert not dear.packing_pays(64, 100, 3200)


def test_both_directions_of_a_layer_count() -> None:
    class Measured:
        def of(self, *_: object) -> tuple[LayerCost, object]:
            return LayerCost(tuple(float(rows) for rows in ROWS), 10.0, 0.0, 1.0, 1.0), None

    def costs(direction: str) -> BatchCost:
        rewritten = rewrite(model_of(Form("LSTM", 1, direction)), Path(), Measured())  # type: ignore[arg-type]
        assert rewritten is not None
        return rewritten.plans[0][1]

    one, both = costs("forward"), costs("bidirectional")
    assert (one._call, both._call) == (10.0, 20.0)
    assert (one._padded[-1], both._padded[-1]) == (64.0, 128.0)


def test_a_step_of_padding_costs_what_was_measured_between_and_beyond() -> None:
    for rows in (1, 4, 8, 20, 64, 200):
        assert layer_costs._between((1.0, 8.0, 64.0), rows) == pytest.approx(rows)


def test_cuts_are_as_far_apart_as_a_piece_is_dear() -> None:
    assert cost(piece=2.0).increment == pytest.approx(2.0)
    assert cost(piece=50.0).increment == pytest.approx(10.0)
