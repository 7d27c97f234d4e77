"""The processes that contestants run in: started when needed, ended when they hang, replaced when they die."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import Any

_MODULE = "seqport.pipeline.bench.worker"
# For how many clock cycles OpenBLAS's threads wait busily, as a power of two: 0.4 ms instead of 100, which everybody
# would have to wait for after each turn of its own.
_SPINNING = "20"


class RefusedError(Exception):
    """A contestant could not do what it was asked; the text says why, for its row of the table."""


class Workers:
    """One process a name, all of them with the same folder. To be used in `with`.

    Args:
        folder: where artifacts are, and where each process leaves what it prints.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._running: dict[str, _Process] = {}

    def __enter__(self) -> Workers:
        self.folder.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        for name in list(self._running):
            self._end(name)

    def pids(self) -> list[int]:
        """The processes that run now."""
        return [process.pid for process in self._running.values()]

    def ask(self, name: str, request: dict[str, Any], seconds: float) -> dict[str, Any]:
        """Send a request to a process and wait for its answer.

        Args:
            name: of the process.
            request: what `worker.Desk` shall do, and its arguments.
            seconds: it may take so long; then the process is ended.

        Raises:
            RefusedError: it failed, hung or died.
        """
        if name not in self._running:
            self._running[name] = _Process(name, self.folder)
        try:
            said = self._running[name].ask(request, seconds)
        except RefusedError:
            self._end(name)
            raise
        except BaseException:  # interrupted: an answer that comes late must not be taken for the next one
            self._end(name)
            raise
        if "error" in said:
            raise RefusedError(said["error"])
        return said

    def tell_all(self, request: dict[str, Any]) -> None:
        """Ask everything that runs; what cannot do it is ended."""
        for name in list(self._running):
            try:
                self.ask(name, request, seconds=60)
            except RefusedError:
                continue

    def _end(self, name: str) -> None:
        self._running.pop(name).end()


class _Process:
    def __init__(self, name: str, folder: Path) -> None:
        self._log = folder / f"{name}.log"
        command = [sys.executable, "-m", _MODULE, str(folder)]
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "OPENBLAS_THREAD_TIMEOUT": _SPINNING}
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, env=environment
            )
        self._rest = b""

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(self, request: dict[str, Any], seconds: float) -> dict[str, Any]:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
        except OSError as error:
            raise RefusedError(self._death()) from error
        return json.loads(self._line(seconds))

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except OSError:  # what was still to be written has no reader any more
                    continue

    def _line(self, seconds: float) -> bytes:
        assert self._process.stdout is not None
        until, pipe = monotonic() + seconds, self._process.stdout.fileno()
        while b"\n" not in self._rest:
            if not select.select([pipe], [], [], max(0.0, until - monotonic()))[0]:
                raise RefusedError(f"took longer than {seconds:.0f} s")
            data = os.read(pipe, 65536)
            if not data:
                raise RefusedError(self._death())
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        return line

    def _death(self) -> str:
        code = self._process.wait()
        said = self._log.read_text(errors="replace").strip().splitlines()
        how = f"by signal {-code}" if code < 0 else f"with code {code}"
        return f"the process ended {how}" + (f": {said[-1][:200]}" if said and code > 0 else "")
