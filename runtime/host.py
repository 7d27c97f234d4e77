"""What a session may take of the machine that it runs on: threads and memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from seqport.runtime import memory
from seqport.runtime.threads import Threads

if TYPE_CHECKING:
    import onnxruntime

_SILENT = 4  # ONNX Runtime's log level: what it would print, Session says or raises


@dataclass(frozen=True)
class Host:
    """A session's part of the machine. The defaults suit an application that has other things to do.

    Attributes:
        threads: how many, and whether they spin.
        memory: what becomes of a run's memory, one of `memory.MODES`.

    Raises:
        ProviderError: an unknown memory mode.
    """

    threads: Threads = field(default_factory=Threads)
    memory: str = "keep"

    def __post_init__(self) -> None:
        memory.check_mode(self.memory)

    @property
    def most_threads(self) -> int:
        """As many as may compute at once."""
        return self.threads.most

    def options(self, *, one_pool: bool = False) -> onnxruntime.SessionOptions:
        """ONNX Runtime's options for it; `one_pool` as in `Threads.apply`.

        Raises:
            ProviderError: threads were asked for, and the process has one pool for all.
        """
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = _SILENT
        self.threads.apply(options, one_pool=one_pool)
        memory.apply(options, self.memory)
        return options
