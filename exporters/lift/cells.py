"""Which cell an expression is: RNN, GRU or LSTM, with its weights in ONNX's order of gates.

Needs: the new states of one cell as expressions of its old states and its inputs. Guarantees: a cell that computes
exactly these expressions, or a NotLiftedError that says what does not fit.

The forms, with products element by element:
RNN   h' = act(x W + h R + b)
GRU   h' = z h + (1 - z) n, or h' = (1 - z) h + z n, which is the first with the opposite z
LSTM  c' = f c + i g, h' = o act(c'); with coupled gates i = 1 - f
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from seqport.exporters.lift.algebra import Expression, Factor, Product, close, leaf_factor
from seqport.exporters.lift.errors import NotLiftedError
from seqport.exporters.lift.preactivation import Gate, gate_of, plain, stacked_inputs

# sigmoid(_OPEN) is 1 in float32.
_OPEN = 40.0


@dataclass(frozen=True)
class Cell:
    """One recurrent cell.

    Attributes:
        kind: "rnn", "gru" or "lstm".
        size: num_hidden_units.
        activations: as in a `RecurrentCall`.
        inputs: name of the leaf → W_hx [G * H, size of that leaf], gates in ONNX's order.
        W_hh: [G * H, H].
        b_hx: [G * H].
        b_hh: [G * H]; only a GRU that resets after the product has one.
        reset_after: of a GRU.
        peepholes: [3 * H] in ONNX's order of gates i, o, f, or None.
        projection: [H, P] of an LSTM whose h is its output times a matrix, or None. W_hh takes the output before it.
    """

    kind: str
    size: int
    activations: tuple[str, ...]
    inputs: Mapping[str, np.ndarray]
    W_hh: np.ndarray
    b_hx: np.ndarray
    b_hh: np.ndarray | None = None
    reset_after: bool = False
    peepholes: np.ndarray | None = None
    projection: np.ndarray | None = None


def single_state(new: Expression, h: str) -> Cell:
    """An RNN or a GRU, from its new state.

    Raises:
        NotLiftedError: it is neither.
    """
    if new.dense or not close(new.const, 0) or new.width is None:
        raise NotLiftedError(f"its new state is {new}, which is no RNN, GRU or LSTM")
    size = new.width
    terms = dict(new.scaled)
    state = leaf_factor(h, size, 0, size)
    if len(terms) == 1:
        (product, vector), *_ = terms.items()
        if len(product) == 1 and product[0].kind == "act" and close(vector, 1):
            gate = plain(gate_of(product[0], h, size))
            return Cell("rnn", size, (gate.activation,), gate.inputs, gate.h.T, gate.bias)
    for product in terms:
        if len(product) == 2 and state in product and product[0] is not product[1]:
            z = next((factor for factor in product if factor != state), None)
            if z is None or z.kind != "act":
                continue
            found = _gru(terms, state, z, h, size)
            if found is not None:
                return found
    raise NotLiftedError(f"its new state is {new}, which is no RNN, GRU or LSTM{_clips(new)}")


def _gru(terms: dict[Product, np.ndarray], state: Factor, z: Factor, h: str, size: int) -> Cell | None:
    kept = {key: array for key, array in terms.items() if state not in key}
    with_state = {key: array for key, array in terms.items() if state in key}
    candidates = [key for key in kept if len(key) == 2 and z in key]
    if len(candidates) != 1 or len(terms) != 3:
        return None
    n = candidates[0][0] if candidates[0][1] == z else candidates[0][1]
    sign = with_state.get(_product(z, state))
    if n.kind != "act" or sign is None:
        return None
    update = plain(gate_of(z, h, size))
    if close(sign, 1) and close(kept.get((n,), np.zeros(1)), 1) and close(kept[candidates[0]], -1):
        pass
    elif close(sign, -1) and close(with_state.get((state,), np.zeros(1)), 1) and close(kept[candidates[0]], 1):
        update = update.opposite()
    else:
        return None
    return _with_candidate(update, n, state, h, size)


def _with_candidate(update: Gate, n: Factor, state: Factor, h: str, size: int) -> Cell:
    """The whole GRU, from where its reset gate stands in the candidate.

    Raises:
        NotLiftedError: it stands nowhere, or elsewhere.
    """
    candidate = gate_of(n, h, size)
    inner = [key for key in candidate.dense if len(key) == 2 and state in key]
    after = [key for key in candidate.scaled if len(key) == 2 and any(f.kind == "linear" for f in key)]
    if len(inner) == 1 and len(candidate.dense) == 1 and not candidate.scaled and not candidate.h.any():
        reset = inner[0][0] if inner[0][1] == state else inner[0][1]
        R_n, b_hn, reset_after = candidate.dense[inner[0]], None, False
    elif len(after) == 1 and not candidate.dense and not candidate.h.any() and close(candidate.scaled[after[0]], 1):
        linear, reset = sorted(after[0], key=lambda factor: factor.kind != "linear")
        part = linear.argument
        whole = (leaf_factor(h, size, 0, size),)
        rest = {key for key in candidate.scaled if key not in (after[0], (reset,))}
        if part is None or set(part.dense) != {whole} or part.scaled or rest:
            raise NotLiftedError("its reset gate multiplies more than the recurrent product")
        R_n, b_hn, reset_after = part.dense[whole], candidate.scaled.get((reset,), np.zeros(size)), True
    elif not candidate.scaled and not candidate.dense:
        return _without_reset(update, candidate, size)
    else:
        raise NotLiftedError("its reset gate stands where no GRU of ONNX has it")
    if reset.kind != "act":
        raise NotLiftedError("its reset gate has no activation")
    r = plain(gate_of(reset, h, size))
    if r.activation != update.activation:
        raise NotLiftedError(f"its gates differ in activation: update {update.activation}, reset {r.activation}")
    gates = [update, r, candidate]
    b_hh = None if b_hn is None else np.concatenate([np.zeros(2 * size), b_hn])
    return Cell(
        "gru",
        size,
        (update.activation, candidate.activation),
        stacked_inputs(gates),
        np.concatenate([update.h.T, r.h.T, R_n.T]),
        np.concatenate([gate.bias for gate in gates]),
        b_hh,
        reset_after,
    )


def _without_reset(update: Gate, candidate: Gate, size: int) -> Cell:
    """A GRU whose reset gate is always open: its bias alone makes the sigmoid 1, exactly in float32."""
    if update.activation != "Sigmoid":
        raise NotLiftedError(f"it has no reset gate, and its update gate's activation is {update.activation}")
    closed = {name: np.zeros_like(matrix) for name, matrix in update.inputs.items()}
    r = Gate("Sigmoid", closed, np.zeros((size, size)), np.full(size, _OPEN), {}, {})
    gates = [update, r, candidate]
    return Cell(
        "gru",
        size,
        (update.activation, candidate.activation),
        stacked_inputs(gates),
        np.concatenate([gate.h.T for gate in gates]),
        np.concatenate([gate.bias for gate in gates]),
    )


def two_states(new_h: Expression, new_c: Expression, h: str, c: str, c_next: str) -> Cell:
    """An LSTM, from its new states; `c_next` names the new c inside the new h.

    Raises:
        NotLiftedError: it is none.
    """
    size = new_c.width or 0
    cell_state, next_state = leaf_factor(c, size, 0, size), leaf_factor(c_next, size, 0, size)
    new_h, projection = _unprojected(new_h, size)
    output = _only_product(new_h)
    if output is None or new_c.dense or not close(new_c.const, 0):
        raise NotLiftedError(f"its new states are {new_h} and {new_c}, which is no LSTM{_clips(new_c, new_h)}")
    squash = next((f for f in output if f.kind == "act" and _is_leaf(f.argument, next_state)), None)
    o = next((f for f in output if f is not squash and f.kind == "act"), None)
    forget = [key for key in new_c.scaled if len(key) == 2 and cell_state in key]
    if squash is None or o is None or len(forget) != 1 or not close(new_c.scaled[forget[0]], 1):
        raise NotLiftedError(f"its new states are {new_h} and {new_c}, which is no LSTM{_clips(new_c, new_h)}")
    f = next((factor for factor in forget[0] if factor != cell_state), None)
    rest = {key: array for key, array in new_c.scaled.items() if key != forget[0]}
    if f is None or f.kind != "act":
        raise NotLiftedError("its forget gate has no activation")
    width = size if projection is None else projection.shape[1]
    gates = {"o": gate_of(o, h, size, c_next, width), "f": gate_of(f, h, size, width=width)}
    gates["i"], gates["g"] = _input_gate(rest, f, gates, cell_state, h, size, width)
    cell = _lstm(gates, squash.name, cell_state, next_state, size)
    # u W_hr W_hh: the recurrent weights take the output u before its projection, so that a plain LSTM runs through it.
    return cell if projection is None else replace(cell, W_hh=cell.W_hh @ projection.T, projection=projection)


def _unprojected(new_h: Expression, size: int) -> tuple[Expression, np.ndarray | None]:
    """The h before it is multiplied by a matrix, and the matrix where there is one."""
    if new_h.scaled or len(new_h.dense) != 1 or not close(new_h.const, 0):
        return new_h, None
    (product, matrix), *_ = new_h.dense.items()
    return Expression(size, np.zeros(size), {}, {product: np.ones(size)}), matrix


def _input_gate(
    rest: dict[Product, np.ndarray],
    f: Factor,
    gates: Mapping[str, Gate],
    cell_state: Factor,
    h: str,
    size: int,
    width: int,
) -> tuple[Gate, Gate]:
    """The input gate and the candidate, from what is added to f c."""
    if len(rest) == 1:
        (product, vector), *_ = rest.items()
        if len(product) == 2 and close(vector, 1) and all(factor.kind == "act" for factor in product):
            one, other = (gate_of(factor, h, size, width=width) for factor in product)
            # The gate has the other gates' activation, or where both have it, the peephole.
            known = {gate.activation for gate in gates.values()}
            swap = (one.activation not in known and other.activation in known) or (cell_state,) in other.scaled
            return (other, one) if swap else (one, other)
    if len(rest) == 2:  # i = 1 - f: g - f g
        alone = next((key for key in rest if len(key) == 1), None)
        if alone and close(rest[alone], 1) and close(rest.get(_product(f, alone[0]), np.zeros(1)), -1):
            return gates["f"].opposite(), gate_of(alone[0], h, size, width=width)
    raise NotLiftedError("its new cell state is not f c + i g")


def _lstm(gates: dict[str, Gate], squash: str, cell_state: Factor, next_state: Factor, size: int) -> Cell:
    names = {gates[key].activation for key in "iof"}
    if len(names) != 1:
        listed = ", ".join(f"{key} {gates[key].activation}" for key in "iof")
        raise NotLiftedError(f"its gates differ in activation: {listed}")
    peepholes = []
    for key in "iof":
        source = (next_state if key == "o" else cell_state,)
        extra = dict(gates[key].scaled)
        peepholes.append(extra.pop(source, np.zeros(size)))
        if extra or gates[key].dense:
            raise NotLiftedError(f"its gate {key} reads more than the input, h and a peephole")
    plain(gates["g"])
    ordered = [gates[key] for key in "iofg"]
    return Cell(
        "lstm",
        size,
        (gates["i"].activation, gates["g"].activation, squash),
        stacked_inputs(ordered),
        np.concatenate([gate.h.T for gate in ordered]),
        np.concatenate([gate.bias for gate in ordered]),
        peepholes=np.concatenate(peepholes) if any(p.any() for p in peepholes) else None,
    )


def _clips(*states: Expression) -> str:
    """What to add where a state is limited, as cell_clip and proj_clip do: ONNX's clip limits the gates' sums."""
    alone = [product[0].name for state in states for product in state.scaled if len(product) == 1]
    limited = any(name.startswith(("HardSigmoid:1.0:0.0", "Above:", "Below:")) for name in alone)
    return ": it clips its state, which no recurrent operator of ONNX does" if limited else ""


def _only_product(expression: Expression) -> Product | None:
    if expression.dense or len(expression.scaled) != 1 or not close(expression.const, 0):
        return None
    (product, vector), *_ = expression.scaled.items()
    return product if len(product) == 2 and close(vector, 1) else None


def _is_leaf(expression: Expression | None, factor: Factor) -> bool:
    if expression is None or expression.dense or not close(expression.const, 0):
        return False
    return set(expression.scaled) == {(factor,)} and close(expression.scaled[(factor,)], 1)


def _product(one: Factor, other: Factor) -> Product:
    return tuple(sorted((one, other), key=lambda factor: factor.key))
