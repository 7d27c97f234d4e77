"""Specifications: what they refuse, how they read and write themselves, and the parts they make."""

from __future__ import annotations

import re

import pytest

from seqport.errors import SeqportError
from seqport.models import ModelSpec, SpecError


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cell": "gur"}, "cell = 'gur': allowed are 'rnn', 'gru', 'lstm'"),
        (
            {"strategy": "many"},
            "strategy = 'many': allowed are 'one_to_one', 'one_to_many', 'many_to_one', 'many_to_many', "
            "'encoder_decoder'",
        ),
        ({"output": None}, "output = None: allowed are 'none', 'softmax', 'sigmoid'"),
        ({"activation": "gelu"}, "activation = 'gelu': allowed are 'tanh', 'relu'"),
        ({"activation": "relu"}, "activation = 'relu': allowed with cell 'lstm' is 'tanh'"),
        ({"reset_gate": "never"}, "reset_gate = 'never': allowed are 'after', 'before'"),
        ({"reset_gate": "before"}, "reset_gate = 'before': allowed with cell 'lstm' is 'after'"),
        ({"input_dim": 0}, "input_dim = 0: allowed are integers from 1"),
        ({"num_hidden_units": -4}, "num_hidden_units = -4: allowed are integers from 1"),
        ({"out_dim": 2.0}, "out_dim = 2.0: allowed are integers from 1"),
        ({"seq_max_len": "20"}, "seq_max_len = '20': allowed are integers from 1"),
        ({"num_layers": True}, "num_layers = True: allowed are integers from 1"),
        ({"vocab_size": 0}, "vocab_size = 0: allowed are integers from 1, or None for features"),
        ({"bidirectional": 1}, "bidirectional = 1: allowed are True and False"),
        ({"initial_state": "no"}, "initial_state = 'no': allowed are True and False"),
        (
            {"strategy": "one_to_one"},
            "seq_max_len = 4: allowed with strategy 'one_to_one', a single step, is 1",
        ),
        (
            {"strategy": "one_to_many"},
            "bidirectional = True: allowed with strategy 'one_to_many', which takes its own outputs in, is False",
        ),
        (
            {"strategy": "encoder_decoder"},
            "bidirectional = True: allowed with strategy 'encoder_decoder', which takes its own outputs in, is False",
        ),
        (
            {"strategy": "one_to_many", "bidirectional": False},
            "input_dim = 3: allowed with strategy 'one_to_many' and features is out_dim = 5, "
            "because its outputs are its next inputs",
        ),
        (
            {"strategy": "one_to_many", "bidirectional": False, "vocab_size": 7},
            "vocab_size = 7: allowed with strategy 'one_to_many' is out_dim = 5, "
            "because its outputs are its next inputs",
        ),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_a_bad_field_is_named_with_its_value_and_what_is_allowed(changes, message, make_spec):
    with pytest.raises(SpecError, match=f"^{re.escape(message)}$") as caught:
        make_spec(**changes)
    assert isinstance(caught.value, SeqportError)
    assert isinstance(caught.value, ValueError)


def test_toml_there_and_back(every_spec):
    assert ModelSpec.from_toml(every_spec.to_toml()) == every_spec


def test_a_file_there_and_back(make_spec, tmp_path):
    spec = make_spec(vocab_size=7)
    spec.save(tmp_path / "spec.toml")
    assert ModelSpec.load(tmp_path / "spec.toml") == spec
    assert (tmp_path / "spec.toml").read_text().startswith('cell = "lstm"\ninput_dim = 3\n')


def test_toml_may_leave_out_what_has_a_default():
    spec = ModelSpec.from_toml(
        'cell = "rnn"\ninput_dim = 3\nnum_hidden_units = 4\nout_dim = 1\nseq_max_len = 8\nstrategy = "many_to_one"'
    )
    assert (spec.activation, spec.num_layers, spec.vocab_size) == ("tanh", 1, None)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (('cell = "lstm"', "cell ="), "the specification is no TOML: Invalid value (at line 1, column 7)"),
        (('cell = "lstm"', "layers = 2"), "layers = 2: no such field; allowed are cell, input_dim, "),
        (('cell = "lstm"\n', ""), "the specification lacks cell"),
        (("out_dim = 5", "out_dim = 0"), "out_dim = 0: allowed are integers from 1"),
    ],
    ids=["syntax", "unknown", "missing", "value"],
)
def test_bad_toml_says_what_is_wrong_and_where(edit, message, make_spec, tmp_path):
    text = make_spec().to_toml().replace(*edit)
    with pytest.raises(SpecError, match=f"^{re.escape(message)}"):
        ModelSpec.from_toml(text)
    path = tmp_path / "spec.toml"
    path.write_text(text)
    with pytest.raises(SpecError, match=f"^{re.escape(f'{path}: {message}')}"):
        ModelSpec.load(path)


def test_a_missing_file_is_a_spec_error(tmp_path):
    with pytest.raises(SpecError, match=r"nowhere\.toml cannot be read as a specification: .*No such file"):
        ModelSpec.load(tmp_path / "nowhere.toml")


def test_one_part_takes_x_or_ids_lengths_and_states(make_spec):
    (part,) = make_spec(initial_state=True).parts()
    assert part.name == "model"
    assert part.inputs == (
        ("x", ("batch", "seq", 3), "float32"),
        ("lengths", ("batch",), "int64"),
        ("h_0", (4, "batch", 4), "float32"),
        ("c_0", (4, "batch", 4), "float32"),
    )
    assert part.outputs == ("output", "h_T", "c_T")
    (tokens,) = make_spec(cell="gru", vocab_size=7).parts()
    assert tokens.inputs == (("ids", ("batch", "seq"), "int64"), ("lengths", ("batch",), "int64"))
    assert tokens.outputs == ("output", "h_T")


def test_a_single_step_has_a_fixed_axis(make_spec):
    (part,) = make_spec(strategy="one_to_one", seq_max_len=1).parts()
    assert part.inputs[0] == ("x", ("batch", 1, 3), "float32")
    assert not part.every_step


def test_an_encoder_hands_its_state_to_a_decoder(make_spec):
    encoder, decoder = make_spec(
        strategy="encoder_decoder", bidirectional=False, vocab_size=7, output="softmax"
    ).parts()
    assert (encoder.name, encoder.vocab_size, encoder.out_dim, encoder.output) == ("encoder", 7, None, "none")
    assert encoder.outputs == ("h_T", "c_T")
    assert (decoder.name, decoder.vocab_size, decoder.every_step) == ("decoder", 5, True)
    assert [name for name, _, _ in decoder.inputs] == ["ids", "lengths", "h_0", "c_0"]


def test_one_to_many_carries_its_state(make_spec):
    spec = make_spec(strategy="one_to_many", bidirectional=False, input_dim=5)
    assert spec.initial_state
    assert spec.parts()[0].every_step


def test_the_weights_of_a_part(make_spec):
    (part,) = make_spec(cell="gru", num_layers=1, vocab_size=7).parts()
    layer = {
        **{f"W_hx_{gate}": (4, 3) for gate in "rzn"},
        **{f"W_hh_{gate}": (4, 4) for gate in "rzn"},
        **{f"b_h_{gate}": (4,) for gate in "rzn"},
        "b_hh_n": (4,),
    }
    assert part.weight_shapes() == {
        "model.embedding": (7, 3),
        **{f"model.layers.0.forward.{name}": shape for name, shape in layer.items()},
        **{f"model.layers.0.backward.{name}": shape for name, shape in layer.items()},
        "model.W_oh": (5, 8),
        "model.b_o": (5,),
    }
