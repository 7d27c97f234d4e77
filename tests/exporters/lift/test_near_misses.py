"""Loops that are almost a recurrent layer are left alone with the reason; those that are one in disguise are lifted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from seqport.exporters.lift import lift

H, FEATURES = 4, 3

GATE = "{0}_x = MatMul(x_t, W{0}) {0}_h = MatMul(h, R{0}) {0}_s = Add({0}_x, {0}_h) {0} = {1}({0}_s) "
LSTM = "".join(GATE.format(gate, "Tanh" if gate == "g" else "Sigmoid") for gate in "ifog")
LSTM += "fc = Mul(f, c) ig = Mul(i, g) new_c = Add(fc, ig) t_c = Tanh(new_c) new = Mul(o, t_c) "
VALID = "valid = Less(t, n) m = Unsqueeze(valid, last) "
HELD = VALID + "h2 = Where(m, new, h) c2 = Where(m, new_c, c) "
PLAIN = "h2 = Identity(new) c2 = Identity(new_c) out = Identity(new) "


def loop(step: str, *, read: str = "x_t = Gather<axis = 1>(x, t)", count: str = "seq", more: str = "") -> str:
    """A Loop with lengths around an LSTM's step."""
    return f"""<ir_version: 9, opset_import: ["": 18]>
    model (float[B,T,3] x, int64[B] n, float[B,4] h_0, float[B,4] c_0)
        => (float[T,B,4] y, float[B,4] h_T, float[B,4] c_T) {{
        sizes = Shape(x) seq = Gather(sizes, one) {more}
        h_T, c_T, y = Loop <body = step (int64 t, bool keep, float[B,4] h, float[B,4] c)
            => (bool go, float[B,4] h2, float[B,4] c2, float[B,4] out) {{ {read} {LSTM} {step} go = Identity(keep) }}>
            ({count}, yes, h_0, c_0)
    }}"""


def joined(new: str, *, mask: bool = False, out: str = "Identity(new)") -> str:
    """A Scan that carries c and h in one vector."""
    more, given = (", bool[B] m_t", ", m") if mask else ("", "")
    return f"""<ir_version: 9, opset_import: ["": 18]>
    model (float[B,T,3] x, {"bool[B,T] m, " if mask else ""}float[B,8] s_0) => (float[T,B,4] y, float[B,8] s_T) {{
        s_T, y = Scan <num_scan_inputs = {1 + mask}, scan_input_axes = {[1] * (1 + mask)},
            body = step (float[B,8] s, float[B,3] x_t{more}) => (float[B,8] s2, float[B,4] out) {{
                c, h = Split<axis = 1, num_outputs = 2>(s) {LSTM} {new} out = {out} }}> (s_0, x{given})
    }}"""


LIFTED = {
    "lengths plus one": loop("valid = LessOrEqual(t, n) " + HELD.split(") ", 1)[1] + "out = Where(m, new, nought)"),
    "lengths minus one": loop(
        "u = Add(t, one) valid = Less(u, n) " + HELD.split(") ", 1)[1] + "out = Where(m, new, nought)"
    ),
    "an output computed, and blanked": loop(
        HELD + "w = MatMul(new, Wh) e = Add(w, x_t_) out = Where(m, e, nought)"
    ).replace("x_t_", "i_x"),
    "a projection": loop(PLAIN).replace("new = Mul(o, t_c)", "u = Mul(o, t_c) new = MatMul(u, Wh)"),
    "c and h in one": joined("s2 = Concat<axis = 1>(new_c, new)"),
    "c and h in one, masked": joined(
        "z = Concat<axis = 1>(new_c, new) u = Unsqueeze(m_t, last) s2 = Where(u, z, s)",
        mask=True,
        out="Where(u, new, nought)",
    ),
    "a slice of the input": loop(
        PLAIN,
        read="u = Add(t, one) a = Unsqueeze(t, zero_) b = Unsqueeze(u, zero_)"
        " s = Slice(x, a, b, last) x_t = Squeeze(s, last)",
    ),
    "a dropout of nothing": loop(
        "r = RandomUniformLike(new) k = GreaterOrEqual(r, nothing) h2 = Where(k, new, nothing) c2 = Identity(new_c)"
        " out = Identity(h2)"
    ),
}
LEFT = {
    "a mask for h alone": (
        loop(VALID + "h2 = Where(m, new, h) c2 = Identity(new_c) out = Identity(h2)"),
        "by different tests",
    ),
    "a mask for c alone": (
        loop(VALID + "h2 = Identity(new) c2 = Where(m, new_c, c) out = Identity(h2)"),
        "by different tests",
    ),
    "two masks": (
        loop(
            VALID
            + "u = Add(t, one) v = Less(u, n) k = Unsqueeze(v, last) h2 = Where(m, new, h) c2 = Where(k, new_c, c)"
            " out = Identity(h2)"
        ),
        "by different tests",
    ),
    "an output under another mask": (
        loop(HELD + "u = Add(t, one) v = Less(u, n) k = Unsqueeze(v, last) out = Where(k, new, nought)"),
        "an output is masked by another test than the state",
    ),
    "a mask that blanks": (
        loop(VALID + "f_ = Cast<to = 1>(m) h2 = Mul(new, f_) c2 = Mul(new_c, f_) out = Identity(h2)"),
        "a masked step sets its state to zero",
    ),
    "lengths of twice the step": (
        loop("u = Add(t, t) valid = Less(u, n) " + HELD.split(") ", 1)[1] + "out = Identity(h2)"),
        "more than one length a row",
    ),
    "a clipped state": (
        loop("low = Neg(ones) a = Max(new_c, low) c2 = Min(a, ones) t2 = Tanh(c2) h2 = Mul(o, t2) out = Identity(h2)"),
        "it clips its state, which no recurrent operator of ONNX does",
    ),
    "the state before the step": (
        loop(PLAIN.replace("out = Identity(new)", "out = Identity(h)")),
        "an output needs 'h'",
    ),
    "every cell state": (loop(PLAIN.replace("out = Identity(new)", "out = Identity(new_c)")), "an output needs 'h'"),
    "one step too few": (loop(PLAIN, count="less", more="less = Sub(seq, one)"), "does not run over its whole input"),
    "a first step that is asked for": (
        loop(PLAIN, more="most = ReduceMax<keepdims = 0>(n) begin = Greater(most, one)").replace(
            "yes, h_0", "begin, h_0"
        ),
        "whether its first step runs is computed",
    ),
    "a second step that is never run": (
        loop(PLAIN).replace("go = Identity(keep)", "go = Identity(no)"),
        "it stops after its first step",
    ),
    "h and c changed over": (joined("s2 = Concat<axis = 1>(new, new_c)"), "which is no LSTM"),
    "one half masked": (
        joined("u = Unsqueeze(m_t, last) k = Where(u, new, h) s2 = Concat<axis = 1>(new_c, k)", mask=True),
        "a step computes Where",
    ),
    "a dropout": (
        loop(
            "r = RandomUniformLike(new) k = GreaterOrEqual(r, half) h2 = Where(k, new, nothing) c2 = Identity(new_c)"
            " out = Identity(h2)"
        ),
        "sets its state to zero",
    ),
}


@pytest.fixture
def saved(tmp_path: Path) -> Callable[[str], Path]:
    """Parse a graph, give it random weights, and save it."""

    def save(text: str) -> Path:
        model = onnx.parser.parse_model(text)
        random = np.random.default_rng(0)
        arrays = {
            "one": np.array(1),
            "yes": np.array(True),
            "no": np.array(False),
            "last": np.array([1]),
            "zero_": np.array([0]),
        }
        arrays |= {
            "nought": np.zeros(H, np.float32),
            "nothing": np.array(0, np.float32),
            "half": np.array(0.5, np.float32),
        }
        arrays |= {"ones": np.ones(1, np.float32), "Wh": random.standard_normal((H, H)).astype(np.float32)}
        for gate in "ifog":
            arrays["W" + gate] = random.standard_normal((FEATURES, H)).astype(np.float32)
            arrays["R" + gate] = random.standard_normal((H, H)).astype(np.float32)
        model.graph.initializer.extend(onnx.numpy_helper.from_array(a, name) for name, a in arrays.items())
        onnx.save(model, tmp_path / "source.onnx")
        return tmp_path / "source.onnx"

    return save


@pytest.mark.parametrize("name", LIFTED)
def test_a_layer_in_disguise_is_lifted(
    name: str, saved: Callable[[str], Path], tmp_path: Path, compare: Callable, operators_of: Callable
) -> None:
    source, target = saved(LIFTED[name]), tmp_path / "lifted.onnx"
    report = lift(source, target)
    assert not report.left, str(report)
    assert [item.cell for item in report.lifted] == ["lstm"]
    assert not {"Loop", "Scan"} & set(operators_of(target))
    compare(source, target)


@pytest.mark.parametrize("name", LEFT)
def test_what_is_almost_a_layer_is_left_alone(name: str, saved: Callable[[str], Path], tmp_path: Path) -> None:
    text, reason = LEFT[name]
    report = lift(saved(text), tmp_path / "out.onnx")
    assert not report.lifted
    assert reason in report.left[0].reason


def test_where_no_step_runs_the_states_are_those_before(saved: Callable[[str], Path], tmp_path: Path) -> None:
    source, target = saved(loop(PLAIN)), tmp_path / "lifted.onnx"
    assert lift(source, target).lifted
    random = np.random.default_rng(0)
    feed = {name: random.standard_normal((2, H)).astype(np.float32) for name in ("h_0", "c_0")}
    feed |= {"x": np.zeros((2, 0, FEATURES), np.float32), "n": np.zeros(2, np.int64)}
    names = ["h_T", "c_T"]
    found, expected = (ort.InferenceSession(path).run(names, feed) for path in (target, source))
    for name, one, other in zip(("h_0", "c_0"), found, expected, strict=True):
        np.testing.assert_array_equal(other, feed[name])
        np.testing.assert_array_equal(one, other)
