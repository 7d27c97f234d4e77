"""The command `seqport`: every command is a few lines over the module that does the work.

Nothing heavy is imported before a command runs, so that `seqport --help` answers at once.
"""

from __future__ import annotations

import sys

from seqport.errors import SeqportError
from seqport.pipeline.cli import bench, files, models, zoo  # noqa: F401 - each adds its commands to the app
from seqport.pipeline.cli.root import app

__all__ = ["app", "main"]


def main() -> None:
    """Run the command; an error that seqport explains becomes its message on stderr and the exit code 1."""
    try:
        app()
    except SeqportError as error:
        message = str(error)
    except ModuleNotFoundError as error:
        message = f"{error.name} is not installed: pip install 'seqport[torch,tensorflow,zoo]'"
    except OSError as error:  # a folder that cannot be written, a full disk
        message = f"{error.filename}: {error.strerror}" if error.filename else str(error)
    else:
        return
    print(f"seqport: {message}", file=sys.stderr)
    raise SystemExit(1)
