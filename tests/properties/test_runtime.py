"""Any ragged list answers as its rows alone, and whatever does not fit the signature is an error that names it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from properties import keras_architectures as k
from properties import keras_builder, torch_builder
from properties import torch_architectures as t
from properties.agreement import assert_agree
from properties.batches import Batch
from properties.profiles import examples
from seqport.exporters import Input, export
from seqport.runtime import InputError, Session

# What makes a difference to a batch of ragged rows: states, a cut axis, time first, a mask, padding that is read.
TORCH = {
    "states": t.Architecture(
        "ids",
        3,
        (t.Pack(), t.Recurrent("lstm", 4, num_layers=2, bidirectional=True, initial="given", layer=1), t.Unpack("max")),
        "steps",
        finals=True,
    ),
    "time-major": t.Architecture(
        "features", 2, (t.Pack(), t.Recurrent("gru", 3, layer=1), t.Unpack()), "attention", time_major=True
    ),
    "no lengths": t.Architecture("features", 2, (t.Recurrent("gru", 3),), "steps"),
    "convolution": t.Architecture(
        "features",
        2,
        (t.Convolution(3), t.Pack(), t.Recurrent("rnn", 3, bidirectional=True, layer=2), t.Unpack()),
        "steps",
    ),
}
KERAS = {
    "masked": k.Architecture("ids", 3, "zero", (k.Recurrent((k.Cell("gru", 3),), merge="concat"),), "steps"),
    "mask": k.Architecture(
        "features", 2, "given", (k.Recurrent((k.Cell("lstm", 3),), return_state=True, initial="given"),), "average"
    ),
    "lengths": k.Architecture(
        "features", 2, "lengths", (k.Recurrent((k.Cell("rnn", 3),), return_sequences=False),), "last"
    ),
}
NAMES = (*TORCH, *KERAS)
Sessions = dict[str, tuple[Session, tuple[Input, ...]]]


@pytest.fixture(scope="module")
def sessions(folder: Path) -> Sessions:
    """Every architecture, exported and opened."""
    found: Sessions = {}
    for name, architecture in {**TORCH, **KERAS}.items():
        path, inputs = folder / f"{name}.onnx", architecture.inputs
        if isinstance(architecture, t.Architecture):
            model: Any = torch_builder.build(architecture)
        else:
            model = keras_builder.build(architecture, list(Batch((2,), 3).arrays(inputs).values()))
        export(model, path, inputs)
        found[name] = Session(path, "cpu"), inputs
    return found


@examples(few=60)
@given(
    name=st.sampled_from(NAMES),
    lengths=st.lists(st.integers(1, 12), min_size=1, max_size=9),
    batch_size=st.integers(1, 10),
    seed=st.integers(0, 99),
)
def test_ragged_rows_answer_as_each_alone(
    sessions: Sessions, name: str, lengths: list[int], batch_size: int, seed: int
) -> None:
    session, inputs = sessions[name]
    rows = [Batch((steps,), steps, seed + i).arrays(inputs) for i, steps in enumerate(lengths)]
    for row in rows:
        if name == "masked":
            row["ids"] = np.maximum(row["ids"], 1)  # 0 is what the model takes for padding
    tensors = (*session.signature.inputs, *session.signature.outputs)
    place = {tensor.name: tensor.axes.index("batch") for tensor in tensors}
    items = [{key: np.take(value, 0, place[key]) for key, value in row.items() if key != "lengths"} for row in rows]
    answers = session.predict(items, batch_size=batch_size)
    assert len(answers) == len(rows)
    for row, answer in zip(rows, answers, strict=True):
        alone = session.run(row)
        assert list(answer) == list(alone)
        expected = [np.take(value, 0, place[key]) for key, value in alone.items()]
        assert_agree(list(answer.values()), expected, f"{name}, {len(row)} steps")


DTYPES = ("float32", "float64", "float16", "int64", "int32", "uint8", "bool")
_shapes = st.lists(st.integers(0, 6), max_size=4).map(tuple)
_junk = st.sampled_from(
    [None, "x", b"x", {}, [], [[1], [2, 3]], [None], ["a"], object(), 1, 1.5, True, [[1.0]], {1, 2}, 10**30, 1j, [1j]]
)


@st.composite
def _values(draw: st.DrawFn) -> Any:
    """An array of any shape and type, or no array at all."""
    if draw(st.integers(0, 3)) == 0:
        return draw(_junk)
    random, low = np.random.default_rng(draw(st.integers(0, 9))), draw(st.sampled_from([-2, 0, 1]))
    return random.integers(low, 5, draw(_shapes)).astype(draw(st.sampled_from(DTYPES)))


@examples(few=300)
@given(
    name=st.sampled_from(NAMES),
    batch=st.builds(
        lambda lengths, more: Batch(tuple(lengths), max(lengths) + more),
        st.lists(st.integers(1, 5), min_size=1, max_size=3),
        st.integers(0, 2),
    ),
    place=st.integers(0, 9),
    value=_values(),
)
def test_what_does_not_fit_the_signature_is_refused_by_name(
    sessions: Sessions, name: str, batch: Batch, place: int, value: Any
) -> None:
    session, inputs = sessions[name]
    arrays: dict[str, Any] = dict(batch.arrays(inputs))
    changed = list(arrays)[place % len(arrays)]
    arrays[changed] = value
    if _fits(arrays, inputs):
        session.run(arrays)
        return
    with pytest.raises(InputError, match=repr(changed)):
        session.run(arrays)


@examples(few=100)
@given(name=st.sampled_from(NAMES), names=st.sets(st.sampled_from(["x", "ids", "lengths", "mask", "extra", ""])))
def test_names_that_are_not_the_signatures_are_refused(sessions: Sessions, name: str, names: set[str]) -> None:
    session, inputs = sessions[name]
    arrays = Batch((2, 3), 3).arrays(inputs)
    given_names = {key: arrays.get(key, np.ones(1)) for key in names}
    if names == arrays.keys():
        session.run(given_names)
        return
    wrong = names ^ arrays.keys()
    with pytest.raises(InputError) as caught:
        session.run(given_names)
    assert all(repr(key) in str(caught.value) for key in wrong)


@examples(few=150)
@given(name=st.sampled_from(NAMES), place=st.integers(0, 9), value=_values(), row=st.integers(0, 2))
def test_a_wrong_item_is_refused_with_its_number_and_name(
    sessions: Sessions, name: str, place: int, value: Any, row: int
) -> None:
    session, inputs = sessions[name]
    own = [item for item in inputs if item.name != "lengths"]
    items: list[dict[str, Any]] = []
    for steps in (2, 4, 3):
        arrays = Batch((steps,), steps).arrays(own)
        items.append({item.name: np.take(arrays[item.name], 0, item.axes.index("batch")) for item in own})
    changed = own[place % len(own)].name
    items[row][changed] = value
    row_inputs = tuple(Input(i.name, tuple(axis for axis in i.axes if axis != "batch"), i.dtype) for i in own)
    if _fits(items[row], row_inputs):
        assert len(session.predict(items)) == 3
        return
    with pytest.raises(InputError, match=f"^item {row}: .*{changed!r}"):
        session.predict(items)


def _fits(arrays: dict[str, Any], inputs: tuple[Input, ...]) -> bool:
    """Whether a request fits, said anew: its types, fixed axes, one size a name, no axis of 0, lengths in range."""
    sizes: dict[str, int] = {}
    plain = {}
    for item in inputs:
        value = plain[item.name] = _as_array(arrays[item.name], item.dtype)
        if value is None or value.dtype != item.dtype or value.ndim != len(item.axes):
            return False
        for axis, size in zip(item.axes, value.shape, strict=True):
            if size == 0 or size != (axis if isinstance(axis, int) else sizes.setdefault(axis, size)):
                return False
    lengths = plain.get("lengths")
    return lengths is None or bool((lengths >= 1).all() and (lengths <= sizes["seq"]).all())


def _as_array(value: Any, dtype: str) -> np.ndarray | None:
    """An array as it is; Python's numbers and lists of them where no value changes."""
    if isinstance(value, np.ndarray):
        return value
    try:
        array = np.asarray(value)
    except ValueError:
        return None
    if array.dtype.kind not in "biuf":
        return None
    cast = array.astype(dtype)
    return cast if (cast == array).all() else None
