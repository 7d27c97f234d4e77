"""A small algebra in which every way of writing the same cell has one form.

A row of a batch is a vector. An expression is the vector

    const + sum of factors' products times matrices + sum of factors' products times vectors (element by element)

and factors are leaves (the step's input, a state), activations of expressions, and linear parts that stand in a
product. Concatenated kernels, split gates, folded biases, scaled gates and (1 - z) all multiply out to the same sum.
Numbers are float64, so that the weights come out as they went in.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Factor:
    """One thing that stands in a product: equal where `key` is equal.

    Attributes:
        key: identity.
        kind: "leaf", "act" or "linear".
        name: of the leaf, or of the activation in ONNX's words, "HardSigmoid:0.2:0.5".
        columns: of a leaf: the first and one past the last.
        width: of the whole leaf.
        argument: of an activation; of a linear part, the part itself.
    """

    key: str
    kind: str = field(compare=False)
    name: str = field(compare=False, default="")
    columns: tuple[int, int] = field(compare=False, default=(0, 0))
    width: int = field(compare=False, default=0)
    argument: Expression | None = field(compare=False, default=None)

    def cut(self, start: int, stop: int) -> Factor:
        """Columns start to stop."""
        if self.kind == "leaf":
            return leaf_factor(self.name, self.width, self.columns[0] + start, self.columns[0] + stop)
        assert self.argument is not None
        return _wrapped(self.kind, self.name, self.argument.cut(start, stop))


# Factors multiplied element by element, in the order of their keys.
Product = tuple[Factor, ...]


@dataclass(frozen=True)
class Expression:
    """A vector: `const`, `dense` (product @ matrix) and `scaled` (product * vector); width None is a plain number."""

    width: int | None
    const: np.ndarray
    dense: Mapping[Product, np.ndarray] = field(default_factory=dict)
    scaled: Mapping[Product, np.ndarray] = field(default_factory=dict)

    def key(self) -> str:
        """Equal for equal expressions, up to float32's rounding."""
        digest = hashlib.blake2b(digest_size=16)
        digest.update(_bytes(np.broadcast_to(self.const, (self.width or 1,))))
        for tag, terms in (("d", self.dense), ("s", self.scaled)):
            for product in sorted(terms, key=_order):
                digest.update(f"{tag}{_order(product)}".encode())
                digest.update(_bytes(terms[product]))
        return digest.hexdigest()

    def cut(self, start: int, stop: int) -> Expression:
        """Columns start to stop."""
        if self.width is None:
            return self
        scaled: dict[Product, np.ndarray] = {}
        for product, vector in self.scaled.items():
            _add(scaled, _sorted([factor.cut(start, stop) for factor in product]), vector[start:stop])
        dense = {product: matrix[:, start:stop] for product, matrix in self.dense.items()}
        return Expression(stop - start, np.broadcast_to(self.const, (self.width,))[start:stop], dense, scaled)

    def is_number(self) -> bool:
        """Whether no factor is left."""
        return not self.dense and not self.scaled

    def factors(self) -> set[Factor]:
        """Every factor, those inside of others too."""
        found: set[Factor] = set()
        stack = [factor for product in (*self.dense, *self.scaled) for factor in product]
        while stack:
            factor = stack.pop()
            if factor not in found:
                found.add(factor)
                if factor.argument is not None:
                    stack.extend(f for product in (*factor.argument.dense, *factor.argument.scaled) for f in product)
        return found

    def __str__(self) -> str:
        dense = [f"{_named(product)}·W" for product in self.dense]
        scaled = [_named(product) for product in self.scaled]
        return " + ".join(sorted(dense) + sorted(scaled)) or "a constant"


def number(value: np.ndarray | float) -> Expression:
    """A constant: a plain number, or a vector of its last axis."""
    array = np.asarray(value, np.float64)
    vector = array.reshape(-1)
    return Expression(None if array.ndim == 0 else len(vector), vector[0] if array.ndim == 0 else vector)


def leaf(name: str, width: int) -> Expression:
    """The step's input, a state, or another cell's new state."""
    return Expression(width, np.zeros(width), {}, {(leaf_factor(name, width, 0, width),): np.ones(width)})


def leaf_factor(name: str, width: int, start: int, stop: int) -> Factor:
    """Columns of a leaf."""
    return Factor(f"leaf {name} {start}:{stop}", "leaf", name, (start, stop), width)


def activated(function: str, expression: Expression) -> Expression:
    """An activation, in ONNX's words, of an expression."""
    assert expression.width is not None
    factor = _wrapped("act", function, expression)
    return Expression(expression.width, np.zeros(expression.width), {}, {(factor,): np.ones(expression.width)})


def add(one: Expression, other: Expression) -> Expression:
    """The sum."""
    width = _common(one, other)
    dense, scaled = dict(one.dense), dict(one.scaled)
    for terms, more in ((dense, other.dense), (scaled, other.scaled)):
        for product, array in more.items():
            _add(terms, product, array)
    return Expression(width, _wide(one, width) + _wide(other, width), dense, scaled)


def multiply(one: Expression, other: Expression) -> Expression:
    """The product, element by element."""
    width = _common(one, other)
    for plain, rest in ((one, other), (other, one)):
        if plain.is_number():
            by = _wide(plain, width)
            scaled = {product: vector * by for product, vector in rest.scaled.items()}
            return _pruned(
                Expression(width, _wide(rest, width) * by, {p: m * by for p, m in rest.dense.items()}, scaled)
            )
    assert width is not None
    left, right = _terms(one, width), _terms(other, width)
    terms: dict[Product, np.ndarray] = {}
    for product, vector in left.items():
        for factors, by in right.items():
            _add(terms, _sorted([*product, *factors]), vector * by)
    const = terms.pop((), np.zeros(width))
    return _pruned(Expression(width, const, {}, terms))


def matmul(one: Expression, matrix: np.ndarray) -> Expression:
    """The row vector times a matrix."""
    width = matrix.shape[1]
    dense: dict[Product, np.ndarray] = {}
    for product, inner in one.dense.items():
        _add(dense, product, inner @ matrix)
    for product, vector in one.scaled.items():
        scaled = vector[:, None] * matrix
        if len(product) == 1 and product[0].kind == "leaf":  # always the whole leaf: one column range, one name
            factor = product[0]
            whole = np.zeros((factor.width, width))
            whole[slice(*factor.columns)] = scaled
            product, scaled = (leaf_factor(factor.name, factor.width, 0, factor.width),), whole
        _add(dense, product, scaled)
    const = np.broadcast_to(one.const, (matrix.shape[0],)) @ matrix
    return Expression(width, const, dense)


def with_leaf(expression: Expression, inner: Expression, name: str) -> Expression:
    """The expression with a leaf wherever an activation of exactly `inner` stands among its products."""
    assert inner.width is not None
    wanted = inner.key()
    scaled: dict[Product, np.ndarray] = {}
    for product, vector in expression.scaled.items():
        factors = [
            _wrapped("act", f.name, leaf(name, inner.width))
            if f.kind == "act" and f.argument is not None and f.argument.key() == wanted
            else f
            for f in product
        ]
        _add(scaled, _sorted(factors), vector)
    return Expression(expression.width, expression.const, expression.dense, scaled)


def close(vector: np.ndarray, value: float) -> bool:
    """Whether every element is this number, up to float32's rounding."""
    return bool(np.allclose(vector, value, rtol=0, atol=1e-6))


def _terms(expression: Expression, width: int) -> dict[Product, np.ndarray]:
    """The sum's terms for a product: its linear part is one factor, its constant the empty product."""
    terms = dict(expression.scaled)
    if expression.dense:
        part = Expression(width, np.zeros(width), expression.dense)
        terms[(_wrapped("linear", "", part),)] = np.ones(width)
    const = _wide(expression, width)
    if np.any(const):
        terms[()] = np.asarray(const)
    return terms


def _wrapped(kind: str, name: str, argument: Expression) -> Factor:
    return Factor(f"{kind} {name} {argument.key()}", kind, name, argument=argument)


def _common(one: Expression, other: Expression) -> int | None:
    widths = {width for width in (one.width, other.width) if width not in (None, 1)}
    if len(widths) > 1:
        raise ValueError(f"vectors of widths {one.width} and {other.width}")
    return widths.pop() if widths else (one.width or other.width)


def _wide(expression: Expression, width: int | None) -> np.ndarray:
    return expression.const if width is None else np.broadcast_to(expression.const, (width,))


def _add(terms: dict[Product, np.ndarray], product: Product, array: np.ndarray) -> None:
    total = array if product not in terms else terms[product] + array
    if np.any(total):
        terms[product] = total
    else:
        terms.pop(product, None)


def _pruned(expression: Expression) -> Expression:
    keep: Callable[[Mapping[Product, np.ndarray]], dict[Product, np.ndarray]] = lambda terms: {  # noqa: E731
        product: array for product, array in terms.items() if np.any(array)
    }
    return Expression(expression.width, expression.const, keep(expression.dense), keep(expression.scaled))


def _sorted(factors: list[Factor]) -> Product:
    return tuple(sorted(factors, key=lambda factor: factor.key))


def _order(product: Product) -> str:
    return " ".join(factor.key for factor in product)


def _bytes(array: np.ndarray) -> bytes:
    return (np.ascontiguousarray(array, np.float32) + np.float32(0)).tobytes()  # + 0: no negative zeros


def _named(product: Product) -> str:
    return "·".join(f"{f.name or 'linear'}" for f in product)
