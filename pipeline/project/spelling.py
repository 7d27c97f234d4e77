"""How inputs and arrays are spelled on the command line and in seqport.toml."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from seqport.exporters import Input
from seqport.pipeline.errors import PipelineError

# ids:int64[batch,seq]; the element type is float32 where it is left out, and [] is a scalar.
_INPUT = re.compile(r"\s*(?P<name>[^:\[\]]+?)\s*(:\s*(?P<dtype>\w+)\s*)?\[(?P<axes>[^\[\]]*)\]\s*")


def parse_input(text: str) -> Input:
    """An input from its spelling: `name:dtype[axis,axis]`, an axis being a name (dynamic) or a number (fixed).

    Raises:
        PipelineError: the text has another form.
        InputsError: the element type or an axis is none.
    """
    match = _INPUT.fullmatch(text)
    if match is None:
        raise PipelineError(
            f"input {text!r} cannot be read: expected NAME:DTYPE[AXIS,...], as in 'ids:int64[batch,seq]'"
        )
    axes = [axis.strip() for axis in match["axes"].split(",")] if match["axes"].strip() else []
    return Input(
        match["name"], tuple(int(a) if re.fullmatch(r"-?\d+", a) else a for a in axes), match["dtype"] or "float32"
    )


def parse_pair(text: str, expected: str) -> tuple[str, str]:
    """The two halves of NAME=VALUE.

    Raises:
        PipelineError: there is no such pair.
    """
    name, separator, value = text.partition("=")
    if not separator or not name.strip() or not value.strip():
        raise PipelineError(f"{text!r} cannot be read: expected {expected}")
    return name.strip(), value.strip()


def read_array(path: Path) -> Any:
    """The array in a .npy file.

    Raises:
        PipelineError: there is no such file, or it is no .npy file.
    """
    import numpy as np

    try:
        found = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise PipelineError(f"{path} cannot be read as a .npy file: {error}") from error
    if not isinstance(found, np.ndarray):
        raise PipelineError(f"{path} cannot be read as a .npy file: it holds several arrays; save one with numpy.save")
    return found
