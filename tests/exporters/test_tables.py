"""Ids outside of their table are refused where the framework refuses them, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from seqport.exporters import Input, export
from seqport.runtime import InputValueError, Session

Treat = Callable[[torch.Tensor, torch.nn.Embedding], torch.Tensor]
KINDS: dict[str, tuple[Treat, dict[str, tuple[int, int]]]] = {
    "as they are": (lambda ids, e: e(ids), {"ids": (0, 9)}),
    "selected": (lambda ids, e: e.weight.index_select(0, ids.reshape(-1)).reshape(*ids.shape, 4), {"ids": (0, 9)}),
    "counted from 1": (lambda ids, e: e(ids - 1), {"ids": (1, 10)}),
    "of a scaled table": (lambda ids, e: torch.nn.functional.embedding(ids, e.weight * 2), {"ids": (0, 9)}),
    "of a table scaled by column": (
        lambda ids, e: torch.nn.functional.embedding(ids, e.weight * torch.arange(4.0)),
        {"ids": (0, 9)},
    ),
    "shifted": (lambda ids, e: e(ids + 1), {"ids": (-1, 8)}),
    "turned round": (lambda ids, e: e(ids.flip(1)), {"ids": (0, 9)}),
    "behind a first one": (lambda ids, e: e(torch.cat([torch.ones_like(ids[:, :1]), ids], 1)), {"ids": (0, 9)}),
    "indexed, from the end too": (lambda ids, e: e.weight[ids], {}),
    "indexed, from the end of a small one too": (lambda ids, e: e.weight[:6][ids], {}),
    "wrapped": (lambda ids, e: e(ids % 10), {}),
    "clipped": (lambda ids, e: e(ids.clamp(0, 9)), {}),
    "replaced": (lambda ids, e: e(torch.where(ids < 0, torch.zeros_like(ids), ids)), {}),
}  # fmt: skip


class Reader(torch.nn.Module):
    def __init__(self, treat: Treat) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.e, self.r, self.treat = torch.nn.Embedding(10, 4), torch.nn.GRU(4, 6, batch_first=True), treat

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.r(self.treat(ids, self.e))[0]


@pytest.mark.parametrize("kind", KINDS)
def test_ids_are_refused_as_pytorch_refuses_them(kind: str, tmp_path: Path) -> None:
    treat, tables = KINDS[kind]
    model = Reader(treat).eval()
    path = export(model, tmp_path / "m.onnx", inputs=[Input("ids", ("batch", "seq"), "int64")], outputs=["y"]).path
    session = Session(path, "cpu")
    assert session.description.tables == tables
    for bad, fill in ((-1, 0), (-2, 3), (9, 1), (10, 1)):
        for ids in (np.array([[bad, 5, fill]]), np.array([[1] * 50 + [bad]])):
            try:
                with torch.no_grad():
                    expected = model(torch.from_numpy(ids)).numpy()
            except IndexError:
                with pytest.raises(InputValueError):
                    session.run({"ids": ids})
            else:
                np.testing.assert_allclose(session.run({"ids": ids})["y"], expected, atol=1e-5)


def test_a_wrong_id_is_named_in_batches_rows_chunks_and_bindings(tmp_path: Path) -> None:
    model = Reader(KINDS["as they are"][0]).eval()
    path = export(model, tmp_path / "m.onnx", inputs=[Input("ids", ("batch", "seq"), "int64")], outputs=["y"]).path
    session, right = Session(path, "cpu"), np.array([[1, 2, 3]])
    with pytest.raises(
        InputValueError, match=r"input 'ids' holds the id -1 at \[0, 1\], expected 0 to 9, which is what"
    ):
        session.run({"ids": np.array([[3, -1]])})
    with pytest.raises(InputValueError, match=r"item 1: input 'ids' holds the id 10 at \[0, 2\]"):
        session.predict([right[0], np.array([0, 9, 10])])
    with pytest.raises(InputValueError, match=r"input 'ids' holds the id -7 at \[0\]"):
        session.stream().push(np.array([-7]))
    binding = session.bind({"ids": right})
    binding.inputs["ids"][0, 2] = -1
    with pytest.raises(InputValueError, match="holds the id -1"):
        binding.run()


def test_ids_of_keras_count_from_the_end_as_its_embedding_does(tmp_path: Path) -> None:
    import keras

    ids = keras.Input((None,), dtype="int32", name="ids")
    model = keras.Model(ids, keras.layers.GRU(3, return_sequences=True)(keras.layers.Embedding(10, 4)(ids)))
    session = Session(export(model, tmp_path / "k.onnx").path, "cpu")
    assert session.description.tables == {"ids": (-10, 9)}
    some = np.array([[-1, 5, -10]], np.int32)
    np.testing.assert_allclose(session.run({"ids": some})["output"], np.asarray(model(some)), atol=1e-6)
    with pytest.raises(InputValueError, match=r"holds the id -11 at \[0, 0\], expected -10 to 9"):
        session.run({"ids": np.array([[-11, 5]], np.int32)})


NOWHERE: dict[str, Treat] = {
    "sliced": lambda ids, e: e(ids[:, 1:]),
    "shifted by a step": lambda ids, e: e(torch.cat([ids[:, :1] * 0, ids[:, :-1]], 1)),
    "doubled": lambda ids, e: e(ids * 2),
    "halved": lambda ids, e: e(ids // 2),
    "unknown ones replaced": lambda ids, e: e(torch.where(ids >= 10, 1, ids)),
    "as floats": lambda ids, e: e(ids.float().long()),
    "one-hot": lambda ids, _: torch.nn.functional.one_hot(ids, 4).float(),
}


@pytest.mark.parametrize("kind", NOWHERE)
def test_ids_are_refused_wherever_they_are_looked_up(kind: str, tmp_path: Path) -> None:
    """Where no range of them follows from the graph, what the model itself refuses is refused."""
    model = Reader(NOWHERE[kind]).eval()
    path = export(model, tmp_path / "m.onnx", inputs=[Input("ids", ("batch", "seq"), "int64")], outputs=["y"]).path
    session = Session(path, "cpu")
    for bad in (-9, -1, 4, 10, 20):
        ids = np.array([[1, bad, 3]])
        try:
            with torch.no_grad():
                expected = model(torch.from_numpy(ids)).numpy()
        except (IndexError, RuntimeError):
            with pytest.raises(InputValueError):
                session.run({"ids": ids})
        else:
            np.testing.assert_allclose(session.run({"ids": ids})["y"], expected, atol=1e-5)


class Places(torch.nn.Module):
    """Gives the answer at one place of each row, of one of four kinds."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.r, self.kinds = torch.nn.GRU(3, 6, batch_first=True), torch.nn.Embedding(4, 6)

    def forward(self, x: torch.Tensor, place: torch.Tensor, kind: torch.Tensor) -> torch.Tensor:
        y = self.r(x, self.kinds(kind)[None])[0]
        return y.gather(1, place[:, None, None].expand(-1, 1, 6))[:, 0]


def test_places_and_kinds_of_a_row(tmp_path: Path) -> None:
    """A place is bounded by its own request's steps, and the rows of a small table by no steps at all."""
    inputs = [Input("x", ("batch", "seq", 3)), Input("place", ("batch",), "int64"), Input("kind", ("batch",), "int64")]
    description = export(Places().eval(), tmp_path / "m.onnx", inputs, ["y"]).description
    assert description.tables == {"kind": (0, 3)} and not description.limits and description.rows_independent
    session = Session(tmp_path / "m.onnx", "cpu")
    x = np.random.default_rng(0).standard_normal((2, 40, 3)).astype(np.float32)
    session.run({"x": x, "place": np.array([39, 0]), "kind": np.array([3, 0])})
    for place, kind in ((-1, 0), (40, 0), (0, 4), (0, -1)):
        with pytest.raises(InputValueError):
            session.run({"x": x, "place": np.array([place, 0]), "kind": np.array([kind, 0])})
