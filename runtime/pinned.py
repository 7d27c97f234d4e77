"""Arrays in page-locked memory, which a GPU reads and writes by itself, without a copy through the driver's own buffer.

ONNX Runtime's Python interface hands out no such memory, so it is the driver's. ONNX Runtime copies a bound input from
its address and a bound output to it; where the address is page-locked, that copy is one transfer.
"""

from __future__ import annotations

import ctypes
import math
import threading
import weakref
from collections.abc import Callable, Sequence

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
    size = max(1, math.prod(shape) * dtype.itemsize)
    address = _allocate(size, device)
    if address is None:
        return np.empty(shape, dtype)
    return _array(address, size, shape, dtype, _free, address, device)


class Pool:
    """Page-locked memory that goes from one array to the next. Safe to use from many threads.

    Locking pages takes milliseconds, so that the block of an array whose last view is gone waits for another array of
    its size; sizes are powers of two, so that there are few.

    Args:
        device: the index of the GPU whose driver allocates.
        most: bytes that arrays and waiting blocks may take together.
    """

    def __init__(self, device: int, most: int = 1 << 28) -> None:
        self._blocks = _Blocks(device, most)
        weakref.finalize(self, self._blocks.close).atexit = False

    def empty(self, shape: Sequence[int], dtype: np.dtype) -> np.ndarray | None:
        """An array with whatever the last one left; None where there is no memory left, or none can be locked."""
        blocks, size = self._blocks, 1 << (max(1, math.prod(shape) * dtype.itemsize) - 1).bit_length()
        address = blocks.take(size)
        return None if address is None else _array(address, size, shape, dtype, blocks.give_back, address, size)


class _Blocks:
    """What outlives its pool as long as there are arrays."""

    def __init__(self, device: int, most: int) -> None:
        self._device, self._most = device, most
        self._held = 0
        self._waiting: dict[int, list[int]] = {}
        self._closed = False
        self._lock = threading.Lock()

    def take(self, size: int) -> int | None:
        with self._lock:
            waiting = self._waiting.setdefault(size, [])
            if waiting:
                return waiting.pop()
            if self._held + size > self._most:
                self._free_waiting()
            if self._held + size > self._most:
                return None
            address = _allocate(size, self._device)
            if address is not None:
                self._held += size
            return address

    def give_back(self, address: int, size: int) -> None:
        # Without the lock: the collector may call this at any moment, in the midst of `take` too.
        self._waiting[size].append(address)
        if self._closed:
            self._free_waiting()

    def close(self) -> None:
        self._closed = True
        self._free_waiting()

    def _free_waiting(self) -> None:
        for size, waiting in list(self._waiting.items()):
            while waiting:
                _free(waiting.pop(), self._device)
                self._held -= size


def _array(
    address: int, size: int, shape: Sequence[int], dtype: np.dtype, when_gone: Callable[..., None], *arguments: int
) -> np.ndarray:
    memory = (ctypes.c_byte * size).from_address(address)
    # The array's views keep `memory` alive, and nothing else does.
    weakref.finalize(memory, when_gone, *arguments).atexit = False
    return np.ctypeslib.as_array(memory)[: math.prod(shape) * dtype.itemsize].view(dtype).reshape(shape)


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
