"""Arrays in page-locked memory, which a GPU reads and writes by itself, without a copy through the driver's own buffer.

ONNX Runtime's Python interface hands out no such memory, so it is the driver's. ONNX Runtime copies a bound input from
its address and a bound output to it; where the address is page-locked, that copy is one transfer.
"""

from __future__ import annotations

import ctypes
import math
import weakref
from collections.abc import Sequence

import numpy as np

from seqport.runtime import cuda

_PORTABLE = 1  # CU_MEMHOSTALLOC_PORTABLE: page-locked for every context of the process


def pinned_empty(shape: Sequence[int], dtype: np.dtype, device: int) -> np.ndarray:
    """An array in page-locked memory, which is given back with the array and its last view.

    Args:
        shape: its shape.
        dtype: its dtype.
        device: the index of the GPU whose driver allocates it.

    Returns:
        The array; one in ordinary memory where the driver has none to give, which is slower and no error.
    """
    size = math.prod(shape) * dtype.itemsize
    address = _allocate(max(1, size), device)
    if address is None:
        return np.empty(shape, dtype)
    memory = (ctypes.c_byte * max(1, size)).from_address(address)
    # The array's views keep `memory` alive, and nothing else does.
    weakref.finalize(memory, _free, address, device).atexit = False
    return np.ctypeslib.as_array(memory)[:size].view(dtype).reshape(shape)


def _allocate(size: int, device: int) -> int | None:
    address = ctypes.c_void_p()
    with cuda.primary_context(device) as driver:
        if driver is None or driver.cuMemHostAlloc(ctypes.byref(address), ctypes.c_size_t(size), _PORTABLE):
            return None
    return address.value


def _free(address: int, device: int) -> None:
    with cuda.primary_context(device) as driver:
        if driver is not None:
            driver.cuMemFreeHost(ctypes.c_void_p(address))
