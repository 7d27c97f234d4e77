"""`python -m hunt`: draw models, export them, and print each that goes wrong as data that builds it again."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from hunt.judge import finding
from hunt.layers import Spec
from hunt.models import PLAIN, drawn, smaller


def shrunk(spec: Spec, wrong: Callable[[Spec], str | None]) -> Spec:
    """The least of a model that still goes wrong: a thing is taken out for as long as that is so."""
    while less := next((one for one in smaller(spec) if wrong(one)), None):
        spec = less
    return spec


def hunt(seed: int, minutes: float, folder: Path, models: int = sys.maxsize) -> list[tuple[Spec, str]]:
    """What goes wrong, shrunk, among so many models or for so long."""
    random, found = np.random.default_rng(seed), []
    ends = time.monotonic() + 60 * minutes
    count = 0
    while count < models and time.monotonic() < ends:
        count += 1
        spec = drawn(random)
        if finding(spec, folder):
            spec = shrunk(spec, lambda one: finding(one, folder))
            found.append((spec, finding(spec, folder) or ""))
            print(f"{found[-1][1]}\n  {json.dumps(spec)}", flush=True)
    print(f"{count} models, {len(found)} wrong", flush=True)
    return found


def main() -> int:
    """Hunt, or judge one model that a hunt has printed."""
    parser = argparse.ArgumentParser(prog="hunt", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="how long")
    parser.add_argument("--seed", type=int, default=0, help="of the models")
    parser.add_argument("--spec", type=json.loads, help="a model as a hunt printed it: judge that alone")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if given.spec:
            said = finding({**PLAIN, **given.spec}, Path(folder))
            print(said or "right, or refused")
            return int(bool(said))
        return int(bool(hunt(given.seed, given.minutes, Path(folder))))


if __name__ == "__main__":
    sys.exit(main())
