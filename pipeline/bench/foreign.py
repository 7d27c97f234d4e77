"""How much of the machine others used while something was measured: a benchmark on a busy machine says so itself."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path


class ForeignLoad:
    """Counts from its construction on. Processes that ended meanwhile count as others; Linux only.

    Args:
        pids: gives the processes beside this one that the benchmark runs in now.
    """

    def __init__(self, pids: Callable[[], Sequence[int]]) -> None:
        self._pids = pids
        self._used = self._times()
        self._machine = _machine()

    def share(self) -> float | None:
        """The share of all processor time that others took, 0 to 1; None where the system does not say."""
        before, after = self._machine, _machine()
        if before is None or after is None:
            return None
        busy, total = after[0] - before[0], after[1] - before[1]
        own = sum(used - self._used.get(pid, 0) for pid, used in self._times().items())
        return min(1.0, max(0.0, (busy - own) / total)) if total else None

    def _times(self) -> dict[int, int]:
        return {pid: _process(pid) for pid in [os.getpid(), *self._pids()]}


def _machine() -> tuple[int, int] | None:
    """Ticks that all processors were busy, and all ticks."""
    try:
        first = Path("/proc/stat").read_text().splitlines()[0]
    except OSError:
        return None
    user, nice, system, idle, iowait, irq, softirq, steal, *_ = map(int, first.split()[1:])
    busy = user + nice + system + irq + softirq + steal
    return busy, busy + idle + iowait


def _process(pid: int) -> int:
    """Ticks that a process used; 0 where there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0
    fields = text.rpartition(")")[2].split()  # the name before it may hold anything
    return int(fields[11]) + int(fields[12])
