"""Exports and judges the cases of one framework, in a process that may die of it: a JSON line a verdict.

Usage: python -m peers.worker FRAMEWORK NUMBER EXPORTER PATTERN EVERY. It begins at the case of that number, with that
exporter (the first one where it is empty): where the last process ended. A process exports its first case twice, and
times the second: what a framework loads lazily is loaded then.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import tempfile
import traceback
import warnings
from dataclasses import asdict
from pathlib import Path
from time import process_time

from peers.cases import EXPORTERS, FRAMEWORKS, Case
from peers.judge import Verdict, judge


def main(framework: str, first: int, exporter: str, pattern: str, every: int) -> None:
    """Print what is begun and what came of it, from one case and exporter on."""
    report = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # exporters print
    warm: set[str] = set()
    for number, make in enumerate(FRAMEWORKS[framework]()):
        if number < first or number % every:
            continue
        case = make()
        if pattern in case.name:
            names = EXPORTERS[framework]
            for name in names[names.index(exporter) :] if number == first and exporter else names:
                print(json.dumps({"number": number, "case": case.name, "exporter": name}), file=report)
                if name not in warm:
                    warm.add(name)
                    verdict(case, name)
                print(json.dumps(asdict(verdict(case, name))), file=report)


def verdict(case: Case, exporter: str) -> Verdict:
    """Export one case and judge the file."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = Path(folder) / "model.onnx"
        started = process_time()
        try:
            case.exporters[exporter](path)
        except Exception as error:
            return Verdict(case.name, exporter, process_time() - started, error=_reason(error))
        seconds = process_time() - started
        try:
            found = judge(
                path,
                case.inputs,
                case.expected,
                vocabulary=case.vocabulary,
                sorted_rows=case.sorted_rows,
                shortest=case.shortest,
                least=case.least,
            )
        except Exception as error:
            return Verdict(case.name, exporter, seconds, error=f"ONNX Runtime: {_reason(error)}")
        return Verdict(case.name, exporter, seconds, **found)  # type: ignore[arg-type]


def _reason(error: BaseException) -> str:
    """What went wrong first, in a line."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = str(error).strip() or traceback.format_exception_only(error)[0].strip()
    return f"{type(error).__name__}: {' '.join(text.split())[:300]}"


if __name__ == "__main__":
    os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    if sys.argv[1] == "tf1":
        os.environ["TF_USE_LEGACY_KERAS"] = "1"
    logging.disable(logging.ERROR)
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4], int(sys.argv[5]))
