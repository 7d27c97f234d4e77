"""Tables and progress: coloured and moving on a terminal, plain text everywhere else."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table as RichTable

# Called with what has just been done.
Step = Callable[[str], None]


@dataclass
class Table:
    """Rows of text under headers; a newline in a header stacks it. Rows in `red` stand out."""

    title: str
    headers: Sequence[str]
    rows: list[Sequence[str]] = field(default_factory=list)
    red: set[int] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)

    def add(self, *cells: str, red: bool = False) -> None:
        """Add a row."""
        if red:
            self.red.add(len(self.rows))
        self.rows.append(cells)


def show(table: Table) -> None:
    """Print a table: with rich on a terminal that is wide enough, else in plain columns."""
    grid = _grid(table)
    if sys.stdout.isatty():
        from rich.console import Console

        console = Console()
        if console.width >= max(map(len, grid)):  # on a narrow one rich would cut the numbers
            console.print(_rich(table))
            print(*table.notes, sep="\n")
            return
    print(table.title, *grid, *table.notes, sep="\n")


@contextmanager
def progress(title: str, total: int) -> Iterator[Step]:
    """Show how far long work is: a bar on a terminal, a line a step elsewhere. On stderr, beside any result."""
    if not sys.stderr.isatty():
        done = 0

        def step(what: str) -> None:
            nonlocal done
            done += 1
            print(f"{title} {done}/{total}: {what}", file=sys.stderr, flush=True)

        yield step
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn(title),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=total)
        yield lambda what: bar.update(task, advance=1, description=what)


def number(value: float | None) -> str:
    """A difference in a cell: short, and exact where it is zero."""
    if value is None:
        return "–"
    return "0" if value == 0 else f"{value:.1e}" if math.isfinite(value) else "inf"


def _grid(table: Table) -> list[str]:
    """Headers and rows in columns: words stand left, numbers right."""
    stacks = [header.split("\n") for header in table.headers]
    height = max(map(len, stacks))
    lines = [*zip(*([""] * (height - len(stack)) + stack for stack in stacks), strict=True), *table.rows]
    columns = []
    for index in range(len(table.headers)):
        cells = [line[index] for line in lines]
        width = max(map(len, cells))
        columns.append([cell.ljust(width) if _is_text(table, index) else cell.rjust(width) for cell in cells])
    return ["  ".join(line).rstrip() for line in zip(*columns, strict=True)]


def _rich(table: Table) -> RichTable:
    from rich.table import Table as RichTable

    rich = RichTable(title=table.title, title_justify="left", box=None, header_style="bold", pad_edge=False)
    for index, header in enumerate(table.headers):
        rich.add_column(header, justify="left" if _is_text(table, index) else "right", no_wrap=True)
    for index, row in enumerate(table.rows):
        rich.add_row(*row, style="bold red" if index in table.red else None)
    return rich


def _is_text(table: Table, index: int) -> bool:
    """Whether a column holds words, which stand left, and no numbers."""
    return not any(row[index][:1].isdigit() for row in table.rows)
