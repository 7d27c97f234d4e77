"""Loops written by hand: what is lifted however it is written, and what is left alone, with the reason."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from seqport.exporters.lift import LiftError, lift

H, FEATURES = 4, 3

# Steps of cells on x_t and h (and c), for `matrices` below.
RNN = "a = MatMul(x_t, W) b = MatMul(h, R) s = Add(a, b) new = Tanh(s)"
GATE = "{0}_x = MatMul(x_t, W{0}) {0}_h = MatMul(h, R{0}) {0}_s = Add({0}_x, {0}_h) {0} = {1}({0}_s)"
GRU = " ".join(
    [
        GATE.format("z", "Sigmoid"),
        GATE.format("r", "Sigmoid"),
        "nx = MatMul(x_t, Wn) nh = MatMul(h, Rn) rn = Mul(r, nh) ns = Add(nx, rn) n = Tanh(ns)",
    ]
)
LSTM = " ".join(
    [
        GATE.format("i", "Sigmoid"),
        GATE.format("f", "{f}"),
        GATE.format("o", "Sigmoid"),
        GATE.format("g", "Tanh"),
        "fc = Mul(f, c) ig = Mul(i, g) new_c = Add(fc, ig) t_c = Tanh(new_c) new = Mul(o, t_c)",
    ]
)


def scan(step: str, *, cell_state: bool = False, output: str = "new") -> str:
    """A Scan over x, time-major, with zeros or inputs as the first state."""
    carried = "float[B,4] h, float[B,4] c" if cell_state else "float[B,4] h"
    left = "float[B,4] new, float[B,4] new_c" if cell_state else "float[B,4] new"
    states = "h_0, c_0" if cell_state else "h_0"
    finals = "h_T, c_T" if cell_state else "h_T"
    inputs = "float[B,4] h_0, float[B,4] c_0" if cell_state else "float[B,4] h_0"
    return f"""<ir_version: 9, opset_import: ["": 18]>
    model (float[T,B,3] x, {inputs}) => (float[T,B,4] y, float[B,4] h_T) {{
        {finals}, y = Scan <num_scan_inputs = 1, body = step ({carried}, float[B,3] x_t)
            => ({left}, float[B,4] {output}_out) {{ {step} {output}_out = Identity({output}) }}> ({states}, x)
    }}"""


def loop(step: str, *, count: str = "seq", go_on: str = "go = Identity(keep)", more: str = "") -> str:
    """A Loop over x, batch-major, that carries h, with lengths."""
    return f"""<ir_version: 9, opset_import: ["": 18]>
    model (float[B,T,3] x, int64[B] n, float[B,4] h_0) => (float[T,B,4] y, float[B,4] h_T) {{
        sizes = Shape(x)
        seq = Gather(sizes, one)
        {more}
        h_T, y = Loop <body = step (int64 t, bool keep, float[B,4] h)
            => (bool go, float[B,4] next, float[B,4] out) {{ {step} {go_on} }}> ({count}, yes, h_0)
    }}"""


@pytest.fixture
def saved(tmp_path: Path) -> Callable[[str], Path]:
    """Parse a graph, give it random weights, and save it."""

    def save(text: str) -> Path:
        model = onnx.parser.parse_model(text)
        random = np.random.default_rng(0)
        arrays: dict[str, np.ndarray] = {"one": np.array(1), "zero": np.array(0), "yes": np.array(True)}
        arrays |= {
            "ones": np.ones(1, np.float32),
            "last": np.array([1]),
            "nought": np.zeros(H, np.float32),
            "nothing": np.zeros(1, np.float32),
            "hundred": np.array(100, np.float32),
        }
        for gate in ("", *"zrnifog"):
            arrays["W" + gate] = random.standard_normal((FEATURES, H)).astype(np.float32)
            arrays["R" + gate] = random.standard_normal((H, H)).astype(np.float32)
        model.graph.initializer.extend(onnx.numpy_helper.from_array(a, name) for name, a in arrays.items())
        onnx.save(model, tmp_path / "source-time_major.onnx" if "[T,B,3] x" in text else tmp_path / "source.onnx")
        return tmp_path / ("source-time_major.onnx" if "[T,B,3] x" in text else "source.onnx")

    return save


READ = "x_t = Gather<axis = 1>(x, t) "
BEHIND = "m = Unsqueeze(valid, last) next = Where(m, new, h) out = Where(m, new, nought)"
LIFTED = {
    "rnn": (scan(RNN), "rnn"),
    "gru, (1 - z) on the candidate": (
        scan(f"{GRU} zh = Mul(z, h) q = Sub(ones, z) qn = Mul(q, n) new = Add(zh, qn)"),
        "gru",
    ),
    "gru, (1 - z) on the state": (
        scan(f"{GRU} zn = Mul(z, n) q = Sub(ones, z) qh = Mul(q, h) new = Add(qh, zn)"),
        "gru",
    ),
    "gru, as a step towards the candidate": (scan(f"{GRU} d = Sub(n, h) zd = Mul(z, d) new = Add(h, zd)"), "gru"),
    "lstm": (scan(LSTM.format(f="Sigmoid"), cell_state=True), "lstm"),
    "lstm, input gate 1 - f": (
        scan(
            LSTM.format(f="Sigmoid")
            .replace(GATE.format("i", "Sigmoid"), "")
            .replace("ig = Mul(i, g)", "i = Sub(ones, f) ig = Mul(i, g)"),
            cell_state=True,
        ),
        "lstm",
    ),
    "a function of every output": (scan(f"{RNN} w = MatMul(new, R) e = Softmax(w)", output="e"), "rnn"),
    "a part of every output's function": (
        scan(
            f"{RNN} w = MatMul(new, R) u, v = Split<axis = -1, num_outputs = 2>(w) e = Concat<axis = -1>(v, u)",
            output="e",
        ),
        "rnn",
    ),
    "a function of every input": (
        scan("v = Exp(x_t) a = MatMul(v, W) b = MatMul(h, R) s = Add(a, b) new = Relu(s)"),
        "rnn",
    ),
    "lengths, t < n": (loop(f"{READ} {RNN} valid = Less(t, n) {BEHIND}"), "rnn"),
    "lengths, not (n <= t)": (
        loop(f"{READ} {RNN} past = LessOrEqual(n, t) valid = Not(past) {BEHIND}"),
        "rnn",
    ),
    "lengths, t + 1 <= n": (loop(f"{READ} {RNN} u = Add(t, one) valid = LessOrEqual(u, n) {BEHIND}"), "rnn"),
    "the held state as output": (
        loop(
            f"{READ} {RNN} valid = Greater(n, t) m = Unsqueeze(valid, last) next = Where(m, new, h)"
            " out = Identity(next)"
        ),
        "rnn",
    ),
    "from the end": (
        loop(
            f"u = Sub(seq, t) v = Sub(u, one) x_t = Gather<axis = 1>(x, v) {RNN} next = Identity(new)"
            " out = Identity(new)"
        ),
        "rnn",
    ),
    "from the end, with lengths": (
        loop(f"u = Sub(seq, t) v = Sub(u, one) x_t = Gather<axis = 1>(x, v) {RNN} valid = Less(v, n) {BEHIND}"),
        "rnn",
    ),
    "up to the longest length": (
        loop(
            f"{READ} {RNN} valid = Less(t, n) {BEHIND}",
            count="longest",
            more="most = ReduceMax<keepdims = 0>(n) least = Max(most, one) longest = Min(least, seq)",
        ),
        "rnn",
    ),
}
LEFT = {
    "no cell": (scan("v = MatMul(x_t, W) new = Add(h, v)"), "which is no RNN, GRU or LSTM"),
    "one gate with another activation": (
        scan(LSTM.format(f="HardSigmoid"), cell_state=True),
        "its gates differ in activation: i Sigmoid, o Sigmoid, f HardSigmoid:0.2:0.5",
    ),
    "another gate's complement": (
        scan(f"{GRU} zh = Mul(z, h) q = Sub(ones, r) qn = Mul(q, n) new = Add(zh, qn)"),
        "which is no RNN, GRU or LSTM",
    ),
    "a reset gate on the input": (
        scan(
            f"{GRU.replace('Mul(r, nh)', 'Mul(r, nx)').replace('Add(nx, rn)', 'Add(nh, rn)')}"
            " zh = Mul(z, h) q = Sub(ones, z) qn = Mul(q, n) new = Add(zh, qn)"
        ),
        "its reset gate stands where no GRU of ONNX has it",
    ),
    "no state": (scan("new_ = MatMul(x_t, W) new = Tanh(new_)"), "no step depends on the one before"),
    "an operator that no cell has": (scan(f"{RNN.replace('Tanh(s)', 'Erf(s)')}"), "a step computes Erf"),
    "two steps at once": (
        loop(
            f"{READ} u = Sub(seq, t) v = Sub(u, one) z_t = Gather<axis = 1>(x, v) p = MatMul(z_t, W) {RNN}"
            " next = Add(new, p) out = Identity(next)"
        ),
        "a step reads more than one step of its input",
    ),
    "a stop that depends on the state": (
        loop(
            f"{READ} {RNN} next = Identity(new) out = Identity(new)",
            go_on="total = ReduceSum<keepdims = 0>(new) least = Neg(hundred) go = Less(least, total)",
        ),
        "it stops on a condition that depends on what it computes",
    ),
    "outputs of masked steps": (
        loop(f"{READ} {RNN} valid = Less(t, n) m = Unsqueeze(valid, last) next = Where(m, new, h) out = Identity(new)"),
        "it gives out what it computes from the padding",
    ),
    "a mask that the state decides": (
        loop(f"{READ} {RNN} big = ReduceMax(h, last) b_ = Less(big, nothing) valid = Squeeze(b_, last) {BEHIND}"),
        "of every step",
    ),
}


@pytest.mark.parametrize("name", LIFTED)
def test_a_cell_is_lifted_however_it_is_written(
    name: str, saved: Callable[[str], Path], tmp_path: Path, compare: Callable, operators_of: Callable
) -> None:
    text, cell = LIFTED[name]
    source, target = saved(text), tmp_path / "lifted.onnx"
    report = lift(source, target)
    assert not report.left, str(report)
    assert [item.cell for item in report.lifted] == [cell]
    assert report.lifted[0].direction == ("reverse" if "from the end" in name else "forward")
    assert not {"Loop", "Scan"} & set(operators_of(target))
    compare(source, target)


@pytest.mark.parametrize("name", LEFT)
def test_what_is_no_recurrent_layer_is_left_alone(
    name: str, saved: Callable[[str], Path], tmp_path: Path, compare: Callable
) -> None:
    text, reason = LEFT[name]
    source, target = saved(text), tmp_path / "out.onnx"
    report = lift(source, target)
    assert not report.lifted
    assert reason in report.left[0].reason
    assert str(report.left[0]).startswith(report.left[0].node)
    compare(source, target)


def test_a_wrong_replacement_is_caught_by_the_proof(
    saved: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The recogniser is made to forget a gate's place; only the numbers can tell."""
    from seqport.exporters.lift import recognise

    right = recognise.two_states

    def swapped(*arguments: object) -> object:
        cell = right(*arguments)  # type: ignore[arg-type]
        W = {name: np.roll(matrix, H, axis=0) for name, matrix in cell.inputs.items()}
        return type(cell)(**{**vars(cell), "inputs": W})

    monkeypatch.setattr(recognise, "two_states", swapped)
    report = lift(saved(scan(LSTM.format(f="Sigmoid"), cell_state=True)), tmp_path / "out.onnx")
    assert not report.lifted
    assert "its native form differs from it by" in report.left[0].reason


def test_a_loop_inside_of_a_branch_is_named(saved: Callable[[str], Path], tmp_path: Path) -> None:
    text = scan(RNN).split("{", 1)[1].rsplit("}", 1)[0]
    source = saved(f"""<ir_version: 9, opset_import: ["": 18]>
    model (float[T,B,3] x, float[B,4] h_0, bool which) => (float[T,B,4] z) {{
        z = If (which) <then_branch = yes_ () => (float[T,B,4] y) {{ {text} }},
                        else_branch = no_ () => (float[T,B,4] w) {{ w = MatMul(x, W) }}>
    }}""")
    report = lift(source, tmp_path / "out.onnx")
    assert [item.reason for item in report.left] == ["it stands inside of another loop or branch"]


def test_a_model_without_loops_has_an_empty_report(saved: Callable[[str], Path], tmp_path: Path) -> None:
    source = saved("""<ir_version: 9, opset_import: ["": 18]>
    model (float[T,B,3] x) => (float[T,B,4] y) { y = MatMul(x, W) }""")
    assert str(lift(source, tmp_path / "out.onnx")) == "no loop found"


def test_an_unreadable_file_is_an_error_and_leaves_none_behind(tmp_path: Path) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"no model")
    with pytest.raises(LiftError, match=r"cannot read .*bad\.onnx"):
        lift(tmp_path / "bad.onnx", tmp_path / "out.onnx")
    assert not (tmp_path / "out.onnx").exists()


def test_a_missing_folder_is_an_error(saved: Callable[[str], Path], tmp_path: Path) -> None:
    with pytest.raises(LiftError, match="does not exist: create it"):
        lift(saved(scan(RNN)), tmp_path / "nowhere" / "out.onnx")
