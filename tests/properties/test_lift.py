"""Any drawn cell in any drawn loop is lifted, and the lifted graph gives what the loop gave."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from hypothesis import example, given

from properties.agreement import assert_agree
from properties.loop_builder import build
from properties.loops import Cell, Loop
from properties.loops import loops as drawn_loops
from properties.profiles import examples
from seqport.exporters.lift import lift

# (batch, seq); none is a shape of the lift's own proof.
SHAPES = ((1, 2), (3, 8), (6, 1))


@examples(few=40)
@given(loop=drawn_loops)
@example(Loop(Cell("gru", 2, 3, "zrn", joined=True, gate="HardSigmoid", blend="state"), "loop"))
@example(Loop(Cell("rnn", 2, 1, "h", joined=True), "scan", "lengths", padded="hold", backwards=True))
@example(Loop(Cell("lstm", 2, 2, "ifog", joined=False), "unrolled", given_state=False))
def test_a_lifted_loop_gives_what_the_loop_gave(folder: Path, loop: Loop) -> None:
    check(loop, None, folder)


def check(loop: Loop, _: object, folder: Path) -> None:
    """Lift once, compare at every shape."""
    source, target = folder / "loop.onnx", folder / "lifted.onnx"
    onnx.save(build(loop), source)
    report = lift(source, target)
    if not (loop.form == "unrolled" and loop.gated != "none"):  # which stay, with the reason
        assert not report.left, str(report)
        assert [item.cell for item in report.lifted] == [loop.cell.kind], str(report)
        found = {node.op_type for node in onnx.load(target).graph.node}
        assert found & {"RNN", "GRU", "LSTM"} and not found & {"Loop", "Scan"}, found
    before, after = (ort.InferenceSession(path, providers=["CPUExecutionProvider"]) for path in (source, target))
    for seed, (batch, seq) in enumerate(SHAPES):
        feeds = _draw(before, {"B": batch, "T": seq}, seed)
        expected = [np.asarray(array) for array in before.run(None, feeds)]
        assert_agree([np.asarray(array) for array in after.run(None, feeds)], expected, (batch, seq))


def _draw(session: ort.InferenceSession, sizes: dict[str, int], seed: int) -> dict[str, np.ndarray]:
    """Random values; lengths from nothing to everything, and any mask."""
    random = np.random.default_rng(seed)
    arrays: dict[str, np.ndarray] = {}
    for item in session.get_inputs():
        shape = [axis if isinstance(axis, int) else sizes[axis] for axis in item.shape]
        if "int" in item.type:
            steps = sizes["T"]
            arrays[item.name] = random.integers(0, steps + 1, shape)
        elif "bool" in item.type:
            arrays[item.name] = random.random(shape) < 0.6
        else:
            arrays[item.name] = random.standard_normal(shape).astype(np.float32)
    return arrays
