"""The outcomes as pictures: SVG that is the same for the same numbers."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from seqport.pipeline.bench.cases import CELLS
from seqport.pipeline.bench.contestants.entry import (
    CUDNN_PACKED,
    CUDNN_PADDED,
    LOOP,
    NODE,
    NODE_CUDA,
    OWN,
    OWN_BOUND,
    OWN_CUDA,
    PACKED,
    PADDED,
)
from seqport.pipeline.bench.race import Outcome
from seqport.pipeline.bench.view import Grid, limit_of

# Colours that the colour-blind can tell apart (Okabe and Ito); what is not here stands in the tables alone.
COLOURS = {
    OWN: "#d55e00",
    NODE: "#0072b2",
    LOOP: "#56b4e9",
    PACKED: "#009e73",
    PADDED: "#8fbf4d",
    "Keras": "#cc79a7",
    "OpenVINO": "#7a7a7a",
    "seqport stream": "#e69f00",
}
_GPU_COLOURS = {
    OWN_CUDA: "#d55e00",
    OWN_BOUND: "#e69f00",
    NODE_CUDA: "#0072b2",
    CUDNN_PACKED: "#009e73",
    CUDNN_PADDED: "#8fbf4d",
    PACKED: "#7a7a7a",
}
_STYLE: Any = {
    "svg.hashsalt": "seqport",  # else the names of elements are random
    "svg.fonttype": "none",  # text stays text, in the reader's own font
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def batches_chart(grid: Grid) -> str:
    """Time over the batch size, a column a size, a row a fill; bars hold the middle half of the rounds.

    Time is a multiple of the limit where that was measured, else milliseconds.
    """
    fills, sizes = grid.fills, grid.sizes
    with _figure(3.4 * len(sizes), 2.4 * len(fills) + 0.5, len(fills), len(sizes)) as (figure, panels):
        for row, fill in enumerate(fills):
            for column, size in enumerate(sizes):
                axes = panels[row][column]
                outcomes = grid.row(size, fill)
                for name, colour in _colours(outcomes).items():
                    _line(axes, name, colour, outcomes, of_limit=grid.has_limit)
                _dress(axes, f"H = {size}, {fill:.0%} valid", outcomes, of_limit=grid.has_limit)
        _legend(figure, panels)
        return _svg(figure)


def streams_chart(outcomes: Sequence[Outcome]) -> str:
    """Microseconds a step, a group of bars a network."""
    cells = [cell for cell in CELLS if any(o.case.network.cell == cell for o in outcomes)]
    with _figure(3.4 * len(cells), 3.0, 1, len(cells)) as (figure, panels):
        for axes, cell in zip(panels[0], cells, strict=True):
            own = [outcome for outcome in outcomes if outcome.case.network.cell == cell]
            colours = _colours(own)
            names = [name for name in colours if any(name in outcome.timings for outcome in own)]
            for place, name in enumerate(names):
                bars = [(x, o.timings[name]) for x, o in enumerate(own) if name in o.timings]
                at = [x + (place - len(names) / 2 + 0.5) * 0.8 / len(names) for x, _ in bars]
                heights = [timing.median * 1e6 for _, timing in bars]
                axes.bar(at, heights, 0.8 / len(names), color=colours[name], label=_shown(name))
            axes.set_yscale("log")
            axes.minorticks_off()
            axes.yaxis.set_major_locator(_ticks())
            axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
            axes.set_xticks(range(len(own)), [f"H = {o.case.network.num_hidden_units}" for o in own])
            axes.set_title(f"{cell.upper()}, µs a step", fontsize=9)
        _legend(figure, panels)
        return _svg(figure)


def _colours(outcomes: Sequence[Outcome]) -> Mapping[str, str]:
    return _GPU_COLOURS if any(OWN_CUDA in outcome.timings for outcome in outcomes) else COLOURS


def _shown(name: str) -> str:
    return "PyTorch" if name == PACKED else name


def _line(axes: Any, name: str, colour: str, outcomes: Sequence[Outcome], *, of_limit: bool) -> None:
    points = []
    for outcome in outcomes:
        limit = limit_of(outcome)
        if name in outcome.timings and (limit is not None or not of_limit):
            unit = limit.median if limit is not None else 1e-3
            low, middle, high = (seconds / unit for seconds in outcome.timings[name].quartiles)
            points.append((outcome.case.batch, middle, middle - low, high - middle))
    if not points:
        return
    x, y, below, above = zip(*points, strict=True)
    style = {"linewidth": 2.2, "zorder": 5} if name in (OWN, OWN_CUDA) else {"linewidth": 1.1}
    axes.errorbar(x, y, yerr=[below, above], color=colour, label=name, marker="o", markersize=3, **style)


def _dress(axes: Any, title: str, outcomes: Sequence[Outcome], *, of_limit: bool) -> None:
    if of_limit:
        axes.axhline(1.0, color="#20242a", linewidth=0.8, linestyle=":")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    batches = sorted({outcome.case.batch for outcome in outcomes})
    axes.set_xticks(batches, [f"B = {batch}" for batch in batches])
    axes.minorticks_off()
    axes.yaxis.set_major_locator(_ticks())
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}{'×' if of_limit else ' ms'}")
    axes.set_title(title, fontsize=9)


def _ticks() -> Any:
    from matplotlib.ticker import LogLocator

    return LogLocator(base=10, subs=(1.0, 2.0, 5.0), numticks=12)


@contextmanager
def _figure(width: float, height: float, rows: int, columns: int) -> Iterator[tuple[Any, Any]]:
    """A figure without a window and its panels, in this module's style; others keep theirs."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure, figure.subplots(rows, columns, squeeze=False, sharey="row")


def _svg(figure: Any) -> str:
    """The picture, without the date, spaces at the ends of lines, and decimals that nobody sees."""
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    short = re.sub(r"(\d\.\d\d)\d+", r"\1", text.getvalue())
    short = re.sub(r"font-family: [^;\"]*", "font-family: sans-serif", short)  # not matplotlib's twenty choices
    return "\n".join(line.rstrip() for line in short.splitlines()) + "\n"


def _legend(figure: Any, panels: Any) -> None:
    found: Mapping[str, Any] = dict(_labels(panels))
    figure.legend(found.values(), found.keys(), loc="outside lower center", ncols=2 * panels.shape[1], frameon=False)


def _labels(panels: Any) -> Iterator[tuple[str, Any]]:
    for axes in panels.flat:
        handles, labels = axes.get_legend_handles_labels()
        yield from zip(labels, handles, strict=True)
