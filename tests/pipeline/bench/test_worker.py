"""A contestant's process rests before it gives the machine to the next one."""

from __future__ import annotations

import threading
from time import monotonic

from seqport.pipeline.bench import worker


def _rest_beside(busy_for: float) -> tuple[float, bool]:
    """The seconds until the process was at rest beside a thread that waits busily, and whether that had ended."""
    ended = threading.Event()

    def spin() -> None:
        until = monotonic() + busy_for
        while monotonic() < until and not stop.is_set():
            pass
        ended.set()

    stop = threading.Event()
    thread = threading.Thread(target=spin)
    thread.start()
    started = monotonic()
    worker._come_to_rest()
    taken, whether = monotonic() - started, ended.is_set()
    stop.set()
    thread.join()
    return taken, whether


def test_threads_that_wait_busily_are_waited_for() -> None:
    _, ended = _rest_beside(0.15)
    assert ended


def test_a_process_that_never_rests_is_let_go() -> None:
    taken, ended = _rest_beside(10.0)
    assert not ended
    assert taken < 2 * worker._LONGEST_REST
