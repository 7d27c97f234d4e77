"""What the graph gets for streams: optional states, and everything else as it was."""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from seqport.runtime import CannotStreamError, Session, read_description
from seqport.runtime.artifact import RecurrentInfo, StateInfo
from seqport.runtime.rewriting import streaming
from seqport.runtime.rewriting.states import expose_states

ROW = np.random.default_rng(0).standard_normal((12, 3)).astype(np.float32)
H = 4


def opened(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def rewritten(path: Path) -> tuple[onnxruntime.InferenceSession, list[str]]:
    exposed = expose_states(onnx.load(path), read_description(path), ["x"])
    onnx.checker.check_model(exposed.model)
    return opened(exposed.model), [state.name for state in exposed.states]


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
def test_the_states_are_optional(artifact, cell) -> None:
    path = artifact(cell)
    session, names = rewritten(path)
    assert [i.name for i in session.get_inputs()] == ["x", "lengths"], "the model runs as before without them"
    letters = ["h", "c"] if cell == "lstm" else ["h"]
    assert names == [f"recurrent.{letter}" for letter in letters]
    assert [i.name for i in session.get_overridable_initializers()] == [f"stream/{name}_0" for name in names]
    feed = {"x": ROW[None].repeat(3, 0), "lengths": np.array([12, 1, 5])}
    plain = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for found, expected in zip(session.run(None, feed), plain.run(None, feed), strict=False):
        np.testing.assert_array_equal(found, expected)
    given = {f"stream/{name}_0": np.ones((1, 3, H), np.float32) for name in names}
    started, whole = (np.asarray(session.run(["h_T"], inputs)[0]) for inputs in ({**feed, **given}, feed))
    assert (started != whole).all()


def with_recurrent(path: Path, *, lengths: str | None = "lengths") -> Path:
    """Says in the metadata which layer the node is, as an exporter does."""
    model = onnx.load(path)
    info = RecurrentInfo("recurrent", model.graph.name.upper(), "tagger.rnn", "forward", H, lengths, "zero")
    model.metadata_props[0].value = replace(read_description(path), recurrent=(info,)).to_json()
    onnx.save(model, path)
    return path


def test_states_are_named_after_the_users_layer(artifact) -> None:
    assert rewritten(with_recurrent(artifact("lstm")))[1] == ["tagger.rnn.h", "tagger.rnn.c"]


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
def test_a_row_whose_mask_keeps_no_step_keeps_its_state(artifact, cell) -> None:
    session, names = rewritten(with_recurrent(artifact(cell), lengths="mask"))
    state = np.random.default_rng(1).standard_normal((1, 2, H)).astype(np.float32)
    feed = {"x": ROW[None].repeat(2, 0), "lengths": np.array([0, 4])}
    given = {f"stream/{name}_0": state for name in names}
    finals = ["h_T", "c_T"][: len(names)]
    for final in map(np.asarray, session.run(finals, {**feed, **given})):
        np.testing.assert_array_equal(final[:, 0], state[:, 0])
        assert (final[:, 1] != state[:, 1]).all()


def test_weights_outside_the_file_stay_there(artifact, tmp_path) -> None:
    path = tmp_path / "outside.onnx"
    model = onnx.load(artifact("lstm", scale=0.5))
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=100)
    stream = Session(path, "cpu").stream()
    whole = Session(path, "cpu").predict([ROW])[0]["output"]
    parts = [stream.push(ROW[:5])["output"], stream.push(ROW[5:])["output"]]
    np.testing.assert_allclose(np.concatenate(parts), whole, rtol=0, atol=1e-6)


def test_a_learned_state_starts_each_stream_and_no_later_chunk(artifact, tmp_path) -> None:
    """Rows that begin and rows that go on share a run."""
    model = onnx.load(artifact("gru", scale=0.5))
    graph = model.graph
    start = np.linspace(-1, 1, H, dtype=np.float32).reshape(1, 1, H)
    for name, value in {"learned": start, "one": np.array([1]), "units": np.array([H])}.items():
        graph.initializer.append(numpy_helper.from_array(value, name))
    before = [
        helper.make_node("Shape", ["x"], ["rows"], start=0, end=1),
        helper.make_node("Concat", ["one", "rows", "units"], ["shape"], axis=0),
        helper.make_node("Expand", ["learned", "shape"], ["start"]),
    ]
    recurrent = next(node for node in graph.node if node.op_type == "GRU")
    recurrent.input.append("start")
    nodes = [*before, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    path = tmp_path / "learned.onnx"
    onnx.save(model, path)
    session = Session(path, "cpu")
    whole = session.predict([ROW])[0]["output"]
    streams = session.streams()
    a = streams.push({"a": ROW[:5]})["a"]["output"]
    both = streams.push({"a": ROW[5:], "b": ROW})
    np.testing.assert_allclose(np.concatenate([a, both["a"]["output"]]), whole, rtol=0, atol=1e-6)
    np.testing.assert_allclose(both["b"]["output"], whole, rtol=0, atol=1e-6)


def test_a_recurrent_layer_inside_a_branch_keeps_its_state_to_itself(artifact) -> None:
    path = artifact("gru")
    model = onnx.load(path)
    inner = helper.make_graph(list(model.graph.node), "inner", [], [onnx.ValueInfoProto(name="output")])
    graph = model.graph
    del graph.node[:]
    del graph.output[1:]
    graph.initializer.append(numpy_helper.from_array(np.array(True), "always"))
    graph.node.append(helper.make_node("If", ["always"], ["output"], then_branch=inner, else_branch=inner))
    with pytest.raises(CannotStreamError, match=r"layer 'recurrent' .GRU. cannot stream: it runs inside a If"):
        expose_states(model, read_description(path), ["x"])


def test_a_decoder_that_starts_from_its_encoder(artifact) -> None:
    path = artifact("gru")
    model = onnx.load(path)
    decoder = helper.make_node("GRU", ["steps", "W", "R", "", "lens", "h_T"], ["", "d_T"], name="dec", hidden_size=H)
    model.graph.node.append(decoder)
    with pytest.raises(
        CannotStreamError, match=r"'dec' cannot stream: it starts from what layer 'recurrent' .GRU. gives at the end"
    ):
        expose_states(model, read_description(path), ["x"])


def test_a_state_computed_from_the_sequence(artifact) -> None:
    path = artifact("gru")
    model = onnx.load(path)
    next(node for node in model.graph.node if node.op_type == "GRU").input.append("x")
    with pytest.raises(CannotStreamError, match="its initial state is computed from the whole of 'x'"):
        expose_states(model, read_description(path), ["x"])


def test_a_refusal_is_remembered(artifact, monkeypatch) -> None:
    session = Session(artifact("gru", directions=2), "cpu")
    said = "it is bidirectional, so it reads the sequence from its end too"
    with pytest.raises(CannotStreamError, match=said):
        session.stream()
    monkeypatch.setattr(streaming, "open_for_streams", None)
    with pytest.raises(CannotStreamError, match=said):
        session.streams()
    assert session.run({"x": ROW[None], "lengths": [12]})["output"].shape == (1, 12, 5), "it runs as before"


@pytest.mark.parametrize("refused", [False, True])
def test_weights_are_held_once(artifact, monkeypatch, refused) -> None:
    """One ONNX Runtime session is left: the rewritten one, or after a refusal the file's own."""
    path = artifact("gru", states=True)
    if refused:  # by the proof, when the rewritten model is open
        model = onnx.load(path)
        next(node for node in model.graph.node if node.op_type == "GRU").output[1] = "kept"
        model.graph.node.append(helper.make_node("Neg", ["kept"], ["h_T"]))
        onnx.save(model, path)
    session = Session(path, "cpu", packing="off")
    opened = [weakref.ref(session._model.session)]
    open_rewritten = session._model._open

    def watched(model: bytes) -> onnxruntime.InferenceSession:
        rewritten = open_rewritten(model)
        opened.append(weakref.ref(rewritten))
        return rewritten

    monkeypatch.setattr(session._model, "_open", watched)
    if refused:
        with pytest.raises(CannotStreamError):
            session.stream()
    else:
        session.stream()
    gc.collect()
    assert [ref() is not None for ref in opened] == ([True, False, False] if refused else [False, True])


def test_a_fixed_axis_has_no_chunks(artifact) -> None:
    session = Session(artifact("gru", seq=8), "cpu")
    fixed = replace(session.description.sequences[0], axis=8)
    session._description = replace(session.description, sequences=(fixed,))
    with pytest.raises(CannotStreamError, match="the file fixes its sequence axis to 8 steps; export it with a"):
        session.stream()


def test_limits_of_the_models_own(artifact) -> None:
    session = Session(artifact("gru"), "cpu")
    session._description = replace(session.description, limits={"seq": (3, None)})
    with pytest.raises(CannotStreamError, match="its own layers need at least 3 steps in a run"):
        session.stream()


def test_without_onnx_streams_say_what_is_missing(artifact) -> None:
    code = (
        "import sys; sys.modules['onnx'] = None\n"
        "from seqport.runtime import CannotStreamError, Session\n"
        "try: Session(sys.argv[1], 'cpu').stream()\n"
        "except CannotStreamError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, artifact("gru")], capture_output=True, text=True, timeout=60)
    assert done.stdout.startswith("streams need the package 'onnx', which is not installed: pip install"), done.stderr


def test_the_state_input_of_an_artifact_is_left_alone(artifact) -> None:
    path = artifact("lstm", states=True)
    session, names = rewritten(path)
    assert names == [] and [i.name for i in session.get_inputs()] == ["x", "lengths", "h_0", "c_0"]
    description = read_description(path)
    assert description.states == (StateInfo("h_0", "h_T"), StateInfo("c_0", "c_T"))
