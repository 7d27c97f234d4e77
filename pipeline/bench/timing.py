"""Calls timed in turns: what slows the machine for a while falls on all of them alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median, quantiles
from time import perf_counter

ROUNDS = 25
# Calls are timed in groups that last about this long, so that the clock's own cost does not count.
_SECONDS = 0.002

Call = Callable[[], object]


@dataclass(frozen=True)
class Timing:
    """Seconds of one call, a value a round."""

    rounds: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle round."""
        return median(self.rounds)

    @property
    def quartiles(self) -> tuple[float, float, float]:
        """The median between the two values that hold the middle half of the rounds."""
        if len(self.rounds) == 1:
            return self.rounds[0], self.rounds[0], self.rounds[0]
        low, middle, high = quantiles(self.rounds, n=4, method="inclusive")
        return low, middle, high

    def ratio(self, other: Timing) -> float:
        """How many times as long as the other, round by round: what slows one round slows both."""
        return median(mine / its for mine, its in zip(self.rounds, other.rounds, strict=True))

    def excess(self, other: Timing) -> float:
        """How many seconds more than the other, round by round."""
        return median(mine - its for mine, its in zip(self.rounds, other.rounds, strict=True))


def timed(calls: Mapping[str, Call], rounds: int = ROUNDS) -> dict[str, Timing]:
    """Time calls of this process in turns."""
    repeats = {}
    for name, call in calls.items():
        call()  # the first call may still allocate, trace or load
        started = perf_counter()
        call()
        repeats[name] = max(1, round(_SECONDS / max(perf_counter() - started, 1e-9)))
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    order = list(calls)
    for turn in range(rounds):
        for name in order if turn % 2 == 0 else reversed(order):
            started = perf_counter()
            for _ in range(repeats[name]):
                calls[name]()
            seconds[name].append((perf_counter() - started) / repeats[name])
    return {name: Timing(tuple(several)) for name, several in seconds.items()}
