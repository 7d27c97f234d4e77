"""Keeps what was measured, a line a case, so that a benchmark that was ended goes on where it was."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

from seqport.pipeline.bench.cases import Case
from seqport.pipeline.bench.race import Outcome
from seqport.pipeline.bench.timing import Timing
from seqport.pipeline.bench.worker import case_of, plain_case


class Store:
    """Outcomes in a file of JSON lines.

    Args:
        path: the file; it is created with the first outcome.
        setup: of the machine and the code; outcomes of another setup are not seen.
        date: when this run is.
    """

    def __init__(self, path: Path, setup: str, date: str) -> None:
        self.path = path
        self._setup = setup
        self._date = date
        self._lines = {line["case_key"]: line for line in _lines(path) if line["setup"] == setup}

    def has(self, case: Case, names: Sequence[str]) -> bool:
        """Whether the case was measured with all of these contestants."""
        line = self._lines.get(case.key)
        return line is not None and set(names) <= set(line["asked"])

    def get(self, cases: Sequence[Case]) -> list[Outcome]:
        """The outcomes of those cases that were measured, in their order."""
        return [from_plain(self._lines[case.key]) for case in cases if case.key in self._lines]

    def dates(self, cases: Sequence[Case]) -> list[str]:
        """The days on which they were measured."""
        return sorted({self._lines[case.key]["date"] for case in cases if case.key in self._lines})

    def add(self, outcome: Outcome, names: Sequence[str]) -> None:
        """Keep an outcome, on the disk at once; a later one of the same case takes its place."""
        key = outcome.case.key
        line = {"case_key": key, "setup": self._setup, "date": self._date, "asked": list(names), **to_plain(outcome)}
        self._lines[key] = line
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a+b") as file:
            file.write(b"\n" * _is_cut_off(file) + json.dumps(line).encode() + b"\n")


def to_plain(outcome: Outcome) -> dict[str, Any]:
    """An outcome as JSON has it, with the seconds of every round."""
    timings = {name: list(timing.rounds) for name, timing in outcome.timings.items()}
    return {**vars(outcome), "case": plain_case(outcome.case), "timings": timings}


def from_plain(plain: dict[str, Any]) -> Outcome:
    """The outcome again."""
    timings = {name: Timing(tuple(rounds)) for name, rounds in plain["timings"].items()}
    return Outcome(case_of(plain["case"]), plain["valid_steps"], timings, plain["failed"], plain["foreign"])


def _is_cut_off(file: BinaryIO) -> bool:
    """Whether the last line has no end, because a run was ended while it wrote."""
    if file.seek(0, os.SEEK_END) == 0:
        return False
    file.seek(-1, os.SEEK_END)
    return file.read(1) != b"\n"


def _lines(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            found.append(json.loads(line))
        except ValueError:  # it was cut off
            continue
    return found
