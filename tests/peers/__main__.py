"""Measure seqport beside its peers: `python -m peers`, or `make coverage`.

Each framework's cases run in a process of their own; one that dies or hangs costs its own case, and the next goes on.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import monotonic

from peers.cases import EXPORTERS
from peers.chart import chart
from peers.judge import Verdict
from peers.page import page

TESTS = Path(__file__).parents[1]
# An export that takes longer counts as none; the slowest that ends takes a tenth of it.
SECONDS_ALLOWED = 240
# Frameworks measured at once; each counts its own processor time.
_AT_ONCE = 2


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m peers", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--framework", choices=list(EXPORTERS), action="append", help="all where left out")
    parser.add_argument("--only", default="", help="cases whose name holds this")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="every Nth case of each framework only")
    parser.add_argument("--output", type=Path, help="the page to write, with its picture beside it; else a summary")
    parser.add_argument("--json", type=Path, help="every verdict as JSON")
    chosen = parser.parse_args()
    frameworks = chosen.framework or list(EXPORTERS)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        found = pool.map(lambda framework: list(measured(framework, chosen.only, chosen.every)), frameworks)
    verdicts = dict(zip(frameworks, found, strict=True))
    if chosen.json:
        plain = {framework: [vars(one) for one in several] for framework, several in verdicts.items()}
        chosen.json.write_text(json.dumps(plain, indent=1) + "\n", encoding="utf-8")
    text = page(verdicts, chosen.every)
    if chosen.output:
        chosen.output.write_text(text, encoding="utf-8")
        chosen.output.with_suffix(".svg").write_text(chart(verdicts), encoding="utf-8")
    else:
        print(text.partition("\n## Every model")[0])


def measured(framework: str, pattern: str = "", every: int = 1) -> Iterator[Verdict]:
    """The verdicts on every case of a framework, in their order."""
    number, exporter = 0, ""
    while True:
        begun: dict[str, object] | None = None
        for line in _lines([framework, str(number), exporter, pattern, str(every)]):
            said = json.loads(line)
            if "seconds" not in said:
                begun = said
                continue
            begun = None
            print(f"{framework} {said['case']} {said['exporter']}: {_short(said)}", file=sys.stderr, flush=True)
            yield Verdict(**said)
        if begun is None:
            return
        case, lost = str(begun["case"]), str(begun["exporter"])
        print(f"{framework} {case} {lost}: ended or hung", file=sys.stderr, flush=True)
        yield Verdict(case, lost, error="the process ended, or took longer than it may")
        number, exporter = int(str(begun["number"])), _after(framework, lost)
        if not exporter:
            number += 1


def _lines(arguments: list[str]) -> Iterator[str]:
    """What a worker prints, until it ends or falls silent."""
    path = os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "peers.worker", *arguments]
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "TF_NUM_INTRAOP_THREADS": "1"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment, cwd=TESTS
    ) as worker:
        assert worker.stdout is not None
        rest, last = b"", monotonic()
        while True:
            if select.select([worker.stdout], [], [], 1.0)[0]:
                data = os.read(worker.stdout.fileno(), 65536)
                if not data:
                    break
                *whole, rest = (rest + data).split(b"\n")
                last = monotonic()
                yield from (line.decode() for line in whole)
            elif monotonic() - last > SECONDS_ALLOWED:
                worker.kill()
                return
    if worker.returncode > 0:  # a signal is negative, and costs the case that was begun
        raise SystemExit(f"the worker failed before any case: {' '.join(command)}")


def _after(framework: str, exporter: str) -> str:
    """The exporter whose turn is next on the same case, or an empty text."""
    names = EXPORTERS[framework]
    place = names.index(exporter) + 1
    return names[place] if place < len(names) else ""


def _short(said: dict[str, object]) -> str:
    if said["error"]:
        return str(said["error"])[:100]
    return ", ".join(f"{key} {said[key]}" for key in ("parity", "native", "dynamic", "nodes")) + f" {said['why']}"


if __name__ == "__main__":
    main()
