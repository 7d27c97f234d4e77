"""Every task of the zoo: its data as the spec takes it, rows of every length, nothing learned from the test."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from seqport.models import zoo
from seqport.models.zoo import forecast, generator, hyphenation, language, numbers, rescale
from seqport.models.zoo.task import END, PADDING, Dataset, Split, Task, data_package, pad

ROOT = Path(zoo.__file__).parent
ROOMS = {"__init__", "task", "train", "score"}
PADDED = ("language", "hyphenation", "forecast", "generator", "numbers")


@pytest.fixture(params=zoo.names())
def task(request: pytest.FixtureRequest) -> Task:
    return zoo.get(request.param)


def word(ids: np.ndarray, vocabulary: zoo.Vocabulary | None) -> list[str]:
    assert vocabulary
    return vocabulary.decode(ids)


def test_every_file_is_a_task_and_every_task_has_weights():
    assert {path.stem for path in ROOT.glob("*.py")} - ROOMS == set(zoo.names())
    assert {path.stem for path in (ROOT / "weights").iterdir()} == set(zoo.names())


def test_weights_are_small_and_the_name_is_the_files(task: Task):
    assert task.name in zoo.names()
    assert zoo.weights_path(task.name).stat().st_size < 1_000_000


def test_the_zoo_covers_cells_activations_gates_layers_and_strategies():
    specs = [zoo.get(name).spec for name in zoo.names()]
    assert {(spec.cell, spec.activation) for spec in specs} == {
        *(("rnn", "tanh"), ("rnn", "relu"), ("gru", "tanh"), ("lstm", "tanh"))
    }
    assert {spec.reset_gate for spec in specs if spec.cell == "gru"} == {"after", "before"}
    assert {spec.num_layers for spec in specs} == {1, 2}
    assert {spec.output for spec in specs} == {"none", "softmax", "sigmoid"}
    assert len({spec.strategy for spec in specs}) == 5


def test_inputs_are_the_first_parts(task: Task):
    part = task.spec.parts()[0]
    data = task.load()
    for split in (data.train, data.test):
        batch, seq = len(split), task.spec.seq_max_len
        assert list(split.inputs) == [tensor.name for tensor in part.inputs]
        for tensor in part.inputs:
            sizes = {"batch": batch, "seq": seq}
            array = split.inputs[tensor.name]
            assert array.shape == tuple(sizes[axis] if isinstance(axis, str) else axis for axis in tensor.axes)
            assert array.dtype == tensor.dtype
        assert split.lengths.min() >= 1 and split.lengths.max() <= seq


def test_the_test_split_is_small_and_of_every_length(task: Task):
    test = task.load().test
    assert 300 <= len(test) <= 2000
    expected = {1, task.spec.seq_max_len} if task.name in PADDED else {task.spec.seq_max_len}
    assert expected <= set(test.lengths.tolist())
    assert (np.diff(test.lengths) < 0).any() == (task.name in PADDED)  # unsorted


def test_padding_is_zero(task: Task):
    test = task.load().test
    source = test.inputs["ids" if task.vocabulary else "x"]
    padded = np.arange(source.shape[1]) >= test.lengths[:, None]
    assert not source[padded].any()
    if task.vocabulary:
        assert source[~padded].min() > PADDING


def test_ids_and_classes_are_in_range(task: Task):
    data = task.load()
    if task.vocabulary:
        assert len(task.vocabulary) == task.spec.vocab_size
        assert max(split.inputs["ids"].max() for split in (data.train, data.test)) < len(task.vocabulary)
    if task.answers:
        assert len(task.answers) == task.spec.out_dim
        assert data.train.targets.dtype == np.int64
        assert data.test.targets.min() >= 0 and data.test.targets.max() < len(task.answers)
    else:
        assert data.train.targets.dtype == np.float32
        assert np.isfinite(data.train.targets).all()


@pytest.mark.parametrize("name", ["language", "hyphenation", "generator", "numbers"])
def test_no_test_row_is_learned_from(name: str):
    data = zoo.get(name).load()
    learned = {row.tobytes() for row in data.train.inputs["ids"]}
    assert len(learned) == len(data.train)
    assert not any(row.tobytes() in learned for row in data.test.inputs["ids"])


@pytest.mark.parametrize("module", [forecast, generator, numbers])
def test_data_is_the_same_each_time(module):
    again, first = module.load.__wrapped__(), module.load()
    for split, twin in ((again.train, first.train), (again.test, first.test)):
        assert all(np.array_equal(split.inputs[name], twin.inputs[name]) for name in split.inputs)
        assert np.array_equal(split.targets, twin.targets)


def test_language_has_words_of_all_ten():
    data = language.load()
    assert len(language.LANGUAGES) == 10
    assert np.bincount(data.train.targets, minlength=10).min() > 5_000
    tongue = {
        "".join(word(ids, language.LETTERS)): language.LANGUAGES[target]
        for split in (data.train, data.test)
        for ids, target in zip(split.inputs["ids"], split.targets, strict=True)
    }
    known = {"würde": "de", "which": "en", "señor": "es", "kaikki": "fi", "beaucoup": "fr"}
    known |= {"perché": "it", "gemaakt": "nl", "być": "pl", "não": "pt", "också": "sv"}
    assert {text: tongue[text] for text in known} == known


def test_hyphenation_breaks_after_the_marked_characters():
    train = hyphenation.load().train
    wanted = hyphenation.LETTERS.encode("entwicklung")
    row = next(i for i, ids in enumerate(train.inputs["ids"]) if ids[ids != PADDING].tolist() == wanted)
    letters = word(train.inputs["ids"][row], hyphenation.LETTERS)
    marks = train.targets[row, : len(letters), 0]
    assert "".join(c + "-" * int(m) for c, m in zip(letters, marks, strict=True)) == "ent-wick-lung"


def test_forecast_wants_the_day_after_the_window():
    test = forecast.load().test
    last_highest = test.inputs["x"][np.arange(len(test)), test.lengths - 1, 0]
    # yesterday's target is today's last reading, to the rounding of the file
    assert np.abs(last_highest[1:] - test.targets[:-1, 0]).max() < 0.5 / forecast.FAHRENHEIT.scale


def test_generator_wants_the_next_character_and_then_the_end():
    test = generator.load().test
    letters, nexts = word(test.inputs["ids"][0], generator.LETTERS), word(test.targets[0], generator.LETTERS)
    assert [*letters[1:], END] == nexts
    assert not test.inputs["h_0"].any()


def test_numbers_are_their_digits():
    train = numbers.load().train
    known = {tuple(ids[ids != PADDING]): digits for ids, digits in zip(train.inputs["ids"], train.targets, strict=True)}
    digits = known[tuple(numbers.WORDS.encode(numbers.words_of("three hundred and forty-two")))]
    assert "".join(word(digits, numbers.DIGITS)) == "342" + END
    assert max(map(len, known)) == numbers.SEQ_MAX_LEN


def test_rescale_is_the_conversion():
    row = rescale._readings(np.array([50.0, 68.0]))
    assert row.inputs["x"].shape == (2, 1, 1)
    assert rescale.CELSIUS.in_steps(row.targets)[:, 0] == pytest.approx([100, 200], abs=1e-3)


def test_held_out_rows_have_the_shortest_and_the_longest():
    lengths = np.random.default_rng(0).integers(2, 30, 500)
    lengths[[17, 400]] = 1, 30
    rows = Split({"ids": np.zeros((500, 30), np.int64), "lengths": lengths}, np.arange(500))
    data = Dataset.held_out(rows, 50)
    assert {1, 30} <= set(data.test.lengths.tolist())
    assert sorted([*data.train.targets, *data.test.targets]) == list(range(500))


def test_take_knows_the_batch_axis_of_states():
    rows = zoo.get("generator").load().test.take(np.array([5, 2]))
    assert rows.inputs["h_0"].shape == (2, 2, 96) and len(rows) == 2


def test_pad_features():
    padded = pad([np.ones((2, 3)), np.ones((1, 3))], 4, np.float32)
    assert padded["x"].shape == (2, 4, 3) and padded["x"].sum() == 9
    assert padded["lengths"].tolist() == [2, 1]


def test_unknown_task_and_missing_package():
    with pytest.raises(zoo.ZooError, match="the zoo has no task 'lanugage'; it has language, hyphenation"):
        zoo.get("lanugage")
    with pytest.raises(zoo.ZooError, match=r"'no_such_words', which is not installed: pip install 'seqport\[zoo\]'"):
        data_package("no_such_words")
