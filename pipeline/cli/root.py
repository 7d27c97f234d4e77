"""The command's root, and the options that several commands share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

try:
    import typer
except ModuleNotFoundError as error:  # an application that embeds the runtime installs no command line
    raise SystemExit("seqport: the command needs typer and rich: pip install 'seqport[export]'") from error

app = typer.Typer(
    help="Recurrent and variable-length sequence models, from PyTorch and TensorFlow to ONNX Runtime.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

AnyFile = Annotated[Path, typer.Argument(metavar="FILE", help="Any ONNX file.")]
Json = Annotated[str | None, typer.Option("--json", metavar="FILE", help='Write the result as JSON; "-" is stdout.')]


def write_json(where: str | None, value: dict[str, Any]) -> None:
    """Write a result where `--json` says, if it says anything."""
    if where is None:
        return
    text = json.dumps(value, indent=2)
    if where == "-":
        print(text)
    else:
        Path(where).write_text(text + "\n", encoding="utf-8")
