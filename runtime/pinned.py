"""Arrays in page-locked memory, which a GPU reads and writes by itself, without a copy through the driver's own buffer.

ONNX Runtime's Python interface hands out no such memory, so it is the driver's. ONNX Runtime copies a bound input from
its address and a bound output to it; where the address is page-locked, that copy is one transfer.
"""

from __future__ import annotations

import ctypes
import functools
import math
import threading
import weakref
from collections.abc import Callable, Sequence

import numpy as np

from seqport.runtime import cuda

MOST = 1 << 28  # bytes that a pool holds at most, 256 MB
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
    about its size. The system cannot swap such memory out, hence the bound.

    Args:
        device: the index of the GPU whose driver allocates.
        most: bytes that arrays and waiting blocks may take together.

    Attributes:
        held: bytes that they take.
    """

    def __init__(self, device: int, most: int = MOST) -> None:
        self._device, self._most = device, most
        self.held = 0
        self._waiting: dict[int, list[int]] = {}
        # For the books alone, never while the driver works; one that lets its own thread in again, because the
        # collector may run anything in the midst of it.
        self._lock = threading.RLock()

    def empty(self, shape: Sequence[int], dtype: np.dtype) -> np.ndarray | None:
        """An array with whatever the last one left; None where there is no memory left, or none can be locked."""
        size = _rounded(math.prod(shape) * dtype.itemsize)
        address = self._take(size)
        return None if address is None else _array(address, size, shape, dtype, self._give_back, address, size)

    def _take(self, size: int) -> int | None:
        if size > self._most:
            return None
        unused: list[int] = []
        with self._lock:
            waiting = self._waiting.setdefault(size, [])
            if waiting:
                return waiting.pop()
            if self.held + size > self._most:
                for other, blocks in self._waiting.items():
                    while blocks:
                        unused.append(blocks.pop())
                        self.held -= other
            enough = self.held + size <= self._most
            self.held += size if enough else 0
        for address in unused:
            _free(address, self._device)
        if not enough:
            return None
        address = _allocate(size, self._device)
        if address is None:
            with self._lock:
                self.held -= size
        return address

    def _give_back(self, address: int, size: int) -> None:
        with self._lock:
            self._waiting[size].append(address)


@functools.cache
def pool(device: int) -> Pool:
    """The process's own for a device: all sessions share its bound."""
    return Pool(device)


def _rounded(size: int) -> int:
    """So that blocks of about one size can take each other's place: to an eighth of a power of two, or a page."""
    unit = max(4096, 1 << max(0, (size - 1).bit_length() - 4))
    return max(1, -(-size // unit)) * unit


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
