"""What importing the runtime costs, and what it must never import."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import seqport.runtime

ROUNDS = 11
MOST = 1.3  # times what `import onnxruntime` costs

# Refuses, as a machine without them would, everything that the runtime must do without.
BLOCK = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "tensorflow", "keras", "tf_keras", "onnx", "onnx_ir", "onnxscript",
                                  "tf2onnx", "safetensors", "typer", "rich", "ml_dtypes"} or name in {
                "seqport.models", "seqport.exporters", "seqport.pipeline"}:
            raise ModuleNotFoundError(f"the runtime imported {name}", name=name)
sys.meta_path.insert(0, Refuse())
"""


def _python(code: str, *arguments: str, env: dict[str, str] | None = None) -> str:
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=env)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_costs_little_more_than_onnxruntime(tmp_path) -> None:
    # Compiled as pip leaves a package, whatever this environment does about bytecode.
    env = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    env["PYTHONPYCACHEPREFIX"] = str(tmp_path)

    def cost(modules: str) -> float:
        """Processor seconds in a fresh process, without the interpreter's own start."""
        code = f"import time; t = time.process_time(); import {modules}; print(time.process_time() - t)"
        return float(_python(code, env=env))

    theirs, ours = "onnxruntime", "seqport.runtime, onnxruntime"
    cost(ours)
    # Interleaved, and the least of each: what other processes do adds to a round, and takes from none.
    rounds = [(cost(theirs), cost(ours)) for _ in range(ROUNDS)]
    ratio = min(our for _, our in rounds) / min(their for their, _ in rounds)
    assert ratio <= MOST, f"import {ours} costs {ratio:.2f} x import {theirs}"


def test_a_model_runs_with_numpy_and_onnxruntime_alone(artifact) -> None:
    said = _python(
        BLOCK
        + """
import numpy as np
from seqport.runtime import Session
session = Session(sys.argv[1])
print(session.predict([[1, 2, 3], [4]])[0]["output"].shape)
print(len(session.generate([1, 2], max_steps=3, temperature=1.0)))
print(*(n for n in ("torch", "tensorflow", "keras", "onnx", "seqport.models", "seqport.exporters") if n in sys.modules))
""",
        str(artifact("gru", vocab_size=5, states=True)),
    )
    assert said == "(3, 5)\n2\n\n"


def test_the_block_blocks() -> None:
    with pytest.raises(AssertionError, match="the runtime imported onnx"):
        _python(BLOCK + "import onnx")


def test_a_description_is_read_without_onnxruntime(artifact) -> None:
    said = _python(
        "import sys; sys.modules['onnxruntime'] = None\n"
        "from seqport.runtime import ProviderError, Session, read_description\n"
        "print(read_description(sys.argv[1]).inputs[0].name)\n"
        "try: Session(sys.argv[1])\n"
        "except ProviderError as error: print(error)\n",
        str(artifact()),
    )
    assert said == "x\nonnxruntime is not installed: pip install 'seqport[cpu]', or 'seqport[gpu]' for CUDA\n"


def test_all_names_every_public_name() -> None:
    public = {
        name
        for name, value in vars(seqport.runtime).items()
        if not name.startswith("_") and getattr(value, "__module__", "").startswith("seqport.runtime")
    }
    later = {"Stream", "Streams"}  # imported when they are asked for
    assert all(getattr(seqport.runtime, name).__module__ == "seqport.runtime.streams" for name in later)
    assert public | {"generate"} | later == set(seqport.runtime.__all__)
