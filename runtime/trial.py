"""A real recurrent inference on a device, before any request: an LSTM of a few cells, beside the CPU's answer.

A GPU may be there, every library may load, and the first recurrent run may still fail: cuDNN loads its parts late, and
one of another version is found out only then. The trial's model is kept here as bytes, so that it needs no file
and no `onnx`. Its weights are inputs.
"""

from __future__ import annotations

import base64
import functools

import numpy as np

from seqport.runtime.cuda import CUDA_PROVIDER, provider_options
from seqport.runtime.host import Host
from seqport.runtime.opening import CPU_PROVIDER, open_session

# tests/runtime/test_trial.py builds the same bytes with onnx.helper.
MODEL = base64.b64decode(
    "CAcSB3NlcXBvcnQ6gAIKQgoBWAoBVwoBUgoACgdsZW5ndGhzEgFZEgNZX2gSA1lfYxoFdHJpYWwiBExTVE0qEgoLaGlkZGVuX3Np"
    "emUYBKABAhIFdHJpYWxaFwoBWBISChAIARIMCgIIBQoCCAIKAggDWhcKAVcSEgoQCAESDAoCCAEKAggQCgIIA1oXCgFSEhIKEAgB"
    "EgwKAggBCgIIEAoCCARaFQoHbGVuZ3RocxIKCggIBhIECgIIAmIbCgFZEhYKFAgBEhAKAggFCgIIAQoCCAIKAggEYhkKA1lfaBIS"
    "ChAIARIMCgIIAQoCCAIKAggEYhkKA1lfYxISChAIARIMCgIIAQoCCAIKAggEQgQKABAO"
)
INPUT_DIM, HIDDEN, STEPS, ROWS = 3, 4, 5, 2
TOLERANCE = 1e-4  # float32 without TF32; a broken kernel is off by more than a rounding


def inputs() -> dict[str, np.ndarray]:
    """Inputs and weights of the trial, always the same."""
    random = np.random.default_rng(0)
    shapes = {"X": (STEPS, ROWS, INPUT_DIM), "W": (1, 4 * HIDDEN, INPUT_DIM), "R": (1, 4 * HIDDEN, HIDDEN)}
    feed = {name: random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    return {**feed, "lengths": np.array([STEPS, 2], np.int32)}


@functools.cache
def problem(device: int) -> str | None:
    """What goes wrong when `cuda:<device>` runs an LSTM; None where nothing does. Kept for the process."""
    try:
        session = open_session(MODEL, Host(), (CUDA_PROVIDER, provider_options(device)), CPU_PROVIDER)
        if CUDA_PROVIDER not in session.get_providers():
            return (
                "ONNX Runtime lists CUDA, but could not load it and fell back to the CPU "
                "(its own message on stderr names the library)"
            )
        found = [np.asarray(value) for value in session.run(None, inputs())]
    except Exception as error:  # ONNX Runtime's error types have no common root
        return f"a trial of a small LSTM on it failed: {error}"
    expected = open_session(MODEL, Host(), CPU_PROVIDER).run(None, inputs())
    difference = float(np.max([np.abs(a - b).max() for a, b in zip(found, expected, strict=True)]))
    if not difference <= TOLERANCE:  # NaN too
        return (
            f"a trial of a small LSTM on it differs from the CPU's answer by {difference:.2g}, expected at most "
            f"{TOLERANCE:g}: the GPU, its driver or its cuDNN computes wrongly"
        )
    return None
