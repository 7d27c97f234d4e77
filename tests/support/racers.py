"""Contestants for tests of the race itself: right, wrong, and failing in every way."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import numpy as np

from seqport.pipeline.bench.cases import Case, Inputs, Network
from seqport.pipeline.bench.contestants.entry import Answer, Prepared
from seqport.pipeline.errors import PipelineError

# A contestant is called with arguments that these do not need.
# ruff: noqa: ARG002


class Right:
    """Answers the sums of its inputs at valid steps."""

    error = 0.0
    seconds = 0.0

    def __init__(self, network: Network, folder: Path) -> None:
        pass

    def prepare(self, case: Case, inputs: Inputs) -> Prepared:
        return Prepared(lambda: time.sleep(self.seconds), lambda: self.answer(inputs))

    def answer(self, inputs: Inputs) -> Answer:
        return inputs.x.sum(axis=-1)[inputs.valid][:, np.newaxis] + np.float32(self.error)


class Slow(Right):
    seconds = 0.02


class Long(Right):
    seconds = 0.08


class Wrong(Right):
    error = 0.5


class NotANumber(Right):
    error = float("nan")


class TooLong(Right):
    def answer(self, inputs: Inputs) -> Answer:
        return np.concatenate([super().answer(inputs)] * 2)


class Refuses(Right):
    def __init__(self, network: Network, folder: Path) -> None:
        raise PipelineError(f"{network.key} is not for me")


class Raises(Right):
    def answer(self, inputs: Inputs) -> Answer:
        raise ValueError("of no\nuse")


class Missing(Right):
    def __init__(self, network: Network, folder: Path) -> None:
        import no_such_framework  # noqa: F401 # pyright: ignore[reportMissingImports]


class Hangs(Right):
    def answer(self, inputs: Inputs) -> Answer:
        time.sleep(60)
        return super().answer(inputs)


class Dies(Right):
    """Answers, and then dies while it is timed."""

    def prepare(self, case: Case, inputs: Inputs) -> Prepared:
        return Prepared(lambda: os.kill(os.getpid(), signal.SIGKILL), lambda: self.answer(inputs))


class Ends(Right):
    def answer(self, inputs: Inputs) -> Answer:
        os._exit(3)
