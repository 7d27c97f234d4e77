"""The hash of a model's weights, the same in memory and in any file that holds them."""

from __future__ import annotations

import hashlib

import numpy as np
import onnx_ir as ir

from seqport.exporters.serial import weights_of

# Read at once: large enough to be fast, small beside the weights.
_CHUNK = 1 << 24


def weights_sha256(model: ir.Model) -> str:
    """SHA-256 over each weight's name, element type, shape and bytes, in the order of the names."""
    digest = hashlib.sha256()
    for name, tensor in sorted(weights_of(model).items()):
        digest.update(f"{name}:{tensor.dtype}:{tensor.shape}".encode())
        if tensor.dtype == ir.DataType.STRING or tensor.dtype.bitwidth < 8:
            digest.update(tensor.tobytes())
            continue
        data = np.ascontiguousarray(tensor.numpy()).reshape(-1).view(np.uint8)
        for start in range(0, len(data), _CHUNK):
            digest.update(data[start : start + _CHUNK].data)
    return digest.hexdigest()
