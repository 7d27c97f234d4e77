"""Tables and progress: plain where nobody watches, with rich on a terminal."""

from __future__ import annotations

import sys

import pytest

from seqport.pipeline import report
from seqport.pipeline.report import Table, number, progress, show


@pytest.fixture
def table() -> Table:
    table = Table("title", ["name", "first\nnumber", "mark"], notes=["note"])
    table.add("a", "1.5", "ok")
    table.add("longer", "10.25", "RED", red=True)
    return table


def test_plain_columns_have_words_left_and_numbers_right(table, capsys):
    show(table)
    assert capsys.readouterr().out.splitlines() == [
        "title",
        "         first",
        "name    number  mark",
        "a          1.5  ok",
        "longer   10.25  RED",
        "note",
    ]


def test_a_terminal_gets_colours_if_it_is_wide_enough(table, capsys, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "80")
    show(table)
    wide = capsys.readouterr().out
    assert "\x1b[1;31m" in wide and wide.endswith("note\n")
    monkeypatch.setenv("COLUMNS", "10")
    show(table)
    assert capsys.readouterr().out.splitlines() == ["title", *report._grid(table), "note"]


def test_progress_is_a_line_a_step_on_stderr(capsys):
    with progress("export", 2) as step:
        step("one")
        step("two")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "export 1/2: one\nexport 2/2: two\n"


def test_progress_on_a_terminal_leaves_nothing_behind(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    with progress("export", 1) as step:
        step("one")
    captured = capsys.readouterr()
    assert captured.out == "" and "export 1/1" not in captured.err


@pytest.mark.parametrize(
    ("value", "said"), [(None, "–"), (0.0, "0"), (1.234e-6, "1.2e-06"), (float("inf"), "inf"), (float("nan"), "inf")]
)
def test_numbers_are_short(value, said):
    assert number(value) == said
