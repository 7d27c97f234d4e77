"""The one comparator: valid steps, padded steps and final states, judged apart, in NumPy."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import inf
from typing import Literal, NamedTuple

import numpy as np

from seqport.pipeline.layout import Arrays, Layout, padding_of

View = Literal["valid", "padded", "final"]
VIEWS: tuple[View, ...] = ("valid", "padded", "final")
_WORDS: dict[View, str] = {"valid": "valid steps", "padded": "padded steps", "final": "final states"}


class Tolerances(NamedTuple):
    """The largest absolute difference allowed in each view.

    The defaults are for one float32 runtime against another, which differ by the order of their sums, a few
    1e-6. What stands at padded steps is a convention and no result, so that it must be exact.
    """

    valid: float = 1e-5
    padded: float = 0.0
    final: float = 1e-5


class Worst(NamedTuple):
    """The largest difference in a view, and where it is; infinite for what cannot be compared."""

    difference: float
    where: str


@dataclass(frozen=True)
class Comparison:
    """What a comparison found in each view that has elements."""

    views: Mapping[View, Worst]
    tolerances: Tolerances

    @property
    def ok(self) -> bool:
        """Whether every view is within its tolerance."""
        return not self.faults

    @property
    def faults(self) -> tuple[str, ...]:
        """One sentence for each place where a view is not; several views may fail for one reason."""
        allowed = self.tolerances._asdict()
        failing: dict[Worst, list[View]] = {}
        for view, worst in self.views.items():
            if not worst.difference <= allowed[view]:
                failing.setdefault(worst, []).append(view)
        return tuple(
            f"{', '.join(_WORDS[view] for view in views)} differ by {worst.difference:.3g}, "
            f"allowed is {', '.join(f'{allowed[view]:.3g}' for view in views)}: {worst.where}"
            for worst, views in failing.items()
        )

    def __str__(self) -> str:
        return "; ".join(f"{_WORDS[view]} differ by {worst.difference:.3g}" for view, worst in self.views.items())


def compare(
    found: Arrays,
    expected: Arrays,
    layout: Layout,
    lengths: np.ndarray,
    tolerances: Tolerances = Tolerances(),  # noqa: B008 - a tuple, which nobody can change
    *,
    where: str = "",
) -> Comparison:
    """Compare what a network gave for a batch with what it should have given.

    A step of an output is valid or padded by its row's length. An output without steps is valid, unless the
    layout says that it is a final state. Another shape, a missing or unknown output, and NaN on either side
    are infinite differences.

    Args:
        found: the outputs to judge.
        expected: the outputs that are right.
        layout: of the network.
        lengths: the steps of each row, [batch].
        tolerances: the largest difference allowed in each view.
        where: what to call the batch in messages.
    """
    worsts: dict[View, list[Worst]] = {view: [] for view in VIEWS}
    for name in layout.outputs:
        for view, elements in _views(name, expected[name], layout, lengths):
            worsts[view].append(_worst(name, found.get(name), expected[name], elements))
    worsts["valid"] += [Worst(inf, f"{name!r} was not expected") for name in found if name not in layout.outputs]
    prefix = f"{where}: " if where else ""
    worst: dict[View, Worst] = {}
    for view, several in worsts.items():
        if several:
            largest = max(several, key=_difference)
            worst[view] = Worst(largest.difference, prefix + largest.where)
    return Comparison(worst, tolerances)


def assert_same(
    found: Arrays,
    expected: Arrays,
    layout: Layout,
    lengths: np.ndarray,
    tolerances: Tolerances = Tolerances(),  # noqa: B008 - as above
) -> None:
    """Compare, for tests.

    Raises:
        AssertionError: a view is beyond its tolerance; says the largest difference, and where it is.
    """
    comparison = compare(found, expected, layout, lengths, tolerances)
    if comparison.faults:
        raise AssertionError("\n".join(comparison.faults))


def merged(comparisons: Iterable[Comparison]) -> Comparison:
    """The worst of several comparisons of one tolerance, view by view."""
    several = list(comparisons)
    views: dict[View, Worst] = {
        view: max((c.views[view] for c in several if view in c.views), key=_difference)
        for view in VIEWS
        if any(view in c.views for c in several)
    }
    return Comparison(views, several[0].tolerances)


def failed(reason: str, tolerances: Tolerances = Tolerances()) -> Comparison:  # noqa: B008 - as above
    """The comparison of something that gave no outputs at all."""
    return Comparison({view: Worst(inf, reason) for view in VIEWS}, tolerances)


def _views(name: str, expected: np.ndarray, layout: Layout, lengths: np.ndarray) -> Iterator[tuple[View, np.ndarray]]:
    """The views that an output has elements in, and which elements."""
    if name in layout.finals:
        yield "final", np.ones(expected.shape, bool)
        return
    padding = padding_of(expected, layout.outputs[name], lengths)
    if not padding.all():
        yield "valid", ~padding
    if padding.any():
        yield "padded", padding


def _worst(name: str, found: np.ndarray | None, expected: np.ndarray, elements: np.ndarray) -> Worst:
    if found is None:
        return Worst(inf, f"{name!r} is missing")
    if found.shape != expected.shape:
        return Worst(inf, f"{name!r} has the shape {list(found.shape)}, expected {list(expected.shape)}")
    with np.errstate(invalid="ignore"):  # inf - inf
        difference = np.abs(found.astype(np.float64) - expected.astype(np.float64))
    difference[np.isnan(difference)] = inf
    index = np.unravel_index(np.where(elements, difference, -1.0).argmax(), expected.shape)
    place = ", ".join(map(str, index))
    return Worst(float(difference[index]), f"{name}[{place}] is {found[index]:.7g}, expected {expected[index]:.7g}")


def _difference(worst: Worst) -> float:
    return worst.difference
