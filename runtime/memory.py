"""What a session does with the memory of a run once the run is over.

Measured with random batch sizes and lengths, as resident memory (docs/runtime.md has the numbers): ONNX Runtime's arena
keeps what the largest run needed and some of what did not fit together. Its memory patterns keep one plan for each
shape that ever came, so memory grows with the number of shapes; they are off in every mode, at no measurable cost.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from seqport.runtime.errors import ProviderError

if TYPE_CHECKING:
    import onnxruntime

MODES = {
    "keep": "a session keeps it for its next run",
    "share": "it is kept for the next run of any session of the process that shares",
    "release": "it goes back to the system after every run",
}
_lock = threading.Lock()
_registered = False
_NEXT_POWER_OF_TWO = 0  # growing by what was asked for instead leaves pieces that fit nothing: six times the memory


def check_mode(memory: str) -> None:
    """Refuse an unknown mode.

    Raises:
        ProviderError: it is none of `MODES`.
    """
    if memory not in MODES:
        known = ", ".join(f'"{name}" ({what})' for name, what in MODES.items())
        raise ProviderError(f"memory is {memory!r}, expected one of {known}")


def apply(options: onnxruntime.SessionOptions, memory: str) -> None:
    """Write a mode into ONNX Runtime's options, which are changed in place."""
    options.enable_mem_pattern = False
    if memory == "release":
        options.enable_cpu_mem_arena = False
    elif memory == "share":
        _register_arena()
        options.add_session_config_entry("session.use_env_allocators", "1")


def _register_arena() -> None:
    """Give the process one arena, which sessions use that ask for it; those of other libraries do not notice."""
    global _registered
    import onnxruntime

    with _lock:
        if _registered:
            return
        info = onnxruntime.OrtMemoryInfo(
            "Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT
        )
        config = onnxruntime.OrtArenaCfg({"arena_extend_strategy": _NEXT_POWER_OF_TWO, "max_mem": 0})
        try:
            onnxruntime.create_and_register_allocator(info, config)
        except RuntimeError as error:
            # Another library was first, and its arena serves as well.
            if "already" not in str(error):
                raise
        _registered = True
