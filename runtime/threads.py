"""How many threads a session computes with, whose they are, and what they do while there is nothing to compute."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from seqport.runtime import cores
from seqport.runtime.errors import ProviderError

if TYPE_CHECKING:
    import onnxruntime

_lock = threading.Lock()
_shared: int | None = None  # the size of the process's pool, 0 for one a core; None while each session has its own

# Longer than the gaps between the steps of one run, and too short to be missed by the host when the run is over.
_BRIEFLY_US = "100"
_SINCE = (1, 31)  # the first version that was seen to know it

# What ONNX Runtime says where a session wants a pool of its own and the process has one for all.
ONE_POOL = "use_per_session_threads must be false"


@dataclass(frozen=True)
class Threads:
    """The threads of one session.

    Attributes:
        count: threads within one operator; None is one for each core that the process may use. 1 starts no thread at
            all: the caller's computes alone.
        spin: idle threads look for work in a loop for some milliseconds before they sleep, and the host loses a core
            to each of them meanwhile. Otherwise they do so for 0.1 ms, as long as from one step of a layer to the next.

    Raises:
        ProviderError: a count below 1.
    """

    count: int | None = None
    spin: bool = False

    def __post_init__(self) -> None:
        if self.count is not None and self.count < 1:
            raise ProviderError(f"threads is {self.count}, expected at least 1, or None for one a core")

    @property
    def most(self) -> int:
        """As many as may compute at once; the pool that all sessions share may have fewer."""
        return _shared or self.count or cores.allowed() or os.cpu_count() or 1

    def apply(self, options: onnxruntime.SessionOptions, *, one_pool: bool = False) -> None:
        """Write them into ONNX Runtime's options.

        Args:
            options: changed in place.
            one_pool: the process is known to have one pool, though `share_threads` did not make it.

        Raises:
            ProviderError: a count of its own, where all sessions of the process share one pool.
        """
        if one_pool or _shared is not None:
            if self.count is not None:
                of = "" if _shared is None else f" ({_size(_shared)})"
                raise ProviderError(
                    f"threads is {self.count}, but all sessions of this process share one pool{of}: leave threads out"
                )
            options.use_per_session_threads = False
            return
        count = self.count if self.count is not None else cores.allowed()
        if count is not None:
            options.intra_op_num_threads = count
        briefly = not self.spin and _can_spin_briefly()
        options.add_session_config_entry("session.intra_op.allow_spinning", str(int(self.spin or briefly)))
        if briefly:
            options.add_session_config_entry("session.intra_op.spin_duration_us", _BRIEFLY_US)


def _can_spin_briefly() -> bool:
    """Whether this ONNX Runtime knows the setting; an older one would spin for milliseconds."""
    import onnxruntime

    major, minor = onnxruntime.__version__.split(".")[:2]
    return (int(major), int(minor)) >= _SINCE


def share_threads(count: int | None = None) -> None:
    """Let all sessions that open from now on share one pool of threads. For the application to call, once, first.

    It is ONNX Runtime's own pool for the whole process, and it cannot be undone. From then on ONNX Runtime refuses a
    session with a pool of its own, so any other library of the process that uses ONNX Runtime must open its sessions
    with `use_per_session_threads = False`. Its threads always spin when a run ends (`spin` has no effect): ONNX
    Runtime's Python interface has no way to say otherwise. Where that is too much, open sessions with `threads=1`,
    which have no threads at all, and call them from threads of your own.

    Args:
        count: threads within one operator, the caller's included; None is one a core.

    Raises:
        ProviderError: the process has a pool of another size, or one that was not made here.
    """
    global _shared
    import onnxruntime

    Threads(count)  # refuses what is no count
    wanted = count or cores.allowed() or 0  # ONNX Runtime's word for one a core
    with _lock:
        if _shared is None:
            try:
                onnxruntime.set_global_thread_pool_sizes(wanted, 1)
            except Exception as error:  # ONNX Runtime's error types have no common root
                raise ProviderError(
                    "another part of this process has made its pool, and ONNX Runtime cannot replace it: "
                    "sessions share that one without this call"
                ) from error
            _shared = wanted
        elif _shared != wanted:
            raise ProviderError(
                f"this process's pool has {_size(_shared)}, and ONNX Runtime cannot replace it (by {_size(wanted)})"
            )


def _size(count: int) -> str:
    return f"{count} threads" if count else "one thread a core"
