"""Runs the contestants of one framework, in a process that may die of it: a JSON line a request, a JSON line an answer.

Usage: python -m seqport.pipeline.bench.worker FOLDER. Frameworks keep threads that wait busily for their next work, and
would slow each other within one process; here each one is alone while it is timed.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import warnings
from importlib import import_module
from pathlib import Path
from time import monotonic, perf_counter, process_time, sleep
from typing import Any

import numpy as np

from seqport.errors import SeqportError
from seqport.pipeline.bench.cases import Case, Network, draw
from seqport.pipeline.bench.contestants.entry import Contestant, Prepared

_LONGEST = 300
# Threads that wait busily for more work (OpenBLAS: some 100 ms) would do so on the cores of the next contestant. A
# process rests when it uses less than this share of a core over so many seconds; one that never does is let go.
_RESTING, _GLANCE = 0.1, 0.005
_LONGEST_REST = 0.5


class Desk:
    """What is open in this process; a contestant goes by its maker, which is "module:Class".

    Args:
        folder: where the artifacts are.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._opened: dict[tuple[str, Network], Contestant] = {}
        self._prepared: dict[str, Prepared] = {}
        self._case: Case | None = None

    def answer(self, maker: str, case: Case, path: str) -> dict[str, Any]:
        """Write what a contestant answers as a NumPy file; say how long that took."""
        ready = self._ready(maker, case)
        started = perf_counter()
        np.save(path, ready.answer())
        return {"seconds": perf_counter() - started}

    def time(self, maker: str, case: Case, calls: int, warm: int) -> dict[str, Any]:
        """Time calls together, after some that are not timed."""
        call = self._ready(maker, case).call
        gc.disable()
        try:
            for _ in range(warm):
                call()
            started = perf_counter()
            for _ in range(calls):
                call()
            return {"seconds": (perf_counter() - started) / calls}
        finally:
            gc.enable()

    def make(self, maker: str, network: Network, path: str) -> dict[str, Any]:
        """Export a network by this process's framework."""
        _named(maker)(network, Path(path))
        return {}

    def forget(self) -> dict[str, Any]:
        """Drop everything, for the memory."""
        self._opened.clear()
        self._prepared.clear()
        self._case = None
        gc.collect()
        return {}

    def _ready(self, maker: str, case: Case) -> Prepared:
        if case != self._case:
            self._prepared.clear()
            self._case = case
        if maker not in self._prepared:
            place = (maker, case.network)
            if place not in self._opened:
                self._opened[place] = _named(maker)(case.network, self._folder)
            self._prepared[maker] = self._opened[place].prepare(case, draw(case))
            gc.collect()
        return self._prepared[maker]


def plain_case(case: Case) -> dict[str, Any]:
    """A case as JSON has it."""
    return {**vars(case), "network": vars(case.network)}


def case_of(plain: dict[str, Any]) -> Case:
    """The case again."""
    return Case(**{**plain, "network": Network(**plain["network"])})


def reason(error: BaseException) -> str:
    """An error in one line, as it stands in tables."""
    if isinstance(error, ModuleNotFoundError):
        return f"{error.name} is not installed"
    text = " ".join(str(error).split())[:_LONGEST]
    return text if isinstance(error, SeqportError) else f"{type(error).__name__}: {text}"


def _named(maker: str) -> Any:
    module, name = maker.split(":")
    return getattr(import_module(module), name)


def _come_to_rest() -> None:
    until = monotonic() + _LONGEST_REST
    while monotonic() < until:
        used = process_time()
        sleep(_GLANCE)
        if process_time() - used < _RESTING * _GLANCE:
            return


def _serve(folder: Path) -> None:
    report = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # frameworks print
    desk = Desk(folder)
    for line in sys.stdin:
        request = json.loads(line)
        action = getattr(desk, request.pop("do"))
        if "case" in request:
            request["case"] = case_of(request["case"])
        if "network" in request:
            request["network"] = Network(**request["network"])
        try:
            said = action(**request)
        except Exception as error:  # whatever a framework raises costs its own row
            said = {"error": reason(error)}
        _come_to_rest()
        print(json.dumps(said), file=report)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    _serve(Path(sys.argv[1]))
