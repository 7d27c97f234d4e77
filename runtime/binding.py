"""Runs that read and write arrays in place: a caller's own output arrays, or buffers that are kept for many runs."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from seqport.runtime.artifact import TensorInfo
from seqport.runtime.convert import numpy_dtype
from seqport.runtime.errors import InputDtypeError, OutputBufferError, refused_value
from seqport.runtime.pinned import pinned_empty

if TYPE_CHECKING:
    import onnxruntime

Check = Callable[[Mapping[str, Any]], dict[str, Any]]
# ONNX Runtime's words for a buffer of another shape than the answer.
_SHAPES = re.compile(
    r"output '(.+?)' of node .*? has shape \{([\d,]*)\} but the computed output shape .*? is \{([\d,]*)\}"
)


def run_into(
    session: onnxruntime.InferenceSession,
    feed: Mapping[str, Any],
    outputs: Sequence[TensorInfo],
    out: Mapping[str, np.ndarray],
) -> dict[str, np.ndarray]:
    """One run that writes some outputs into arrays of the caller.

    Args:
        session: ONNX Runtime's own.
        feed: checked inputs.
        outputs: the model's.
        out: an output's name to the array that takes it; the others get new arrays.

    Returns:
        Every output's name to its array; those of `out` are the caller's own.

    Raises:
        OutputBufferError: an array of `out` does not fit its output.
        InputError: ONNX Runtime refused a value, or an input is no plain tensor.
    """
    check_out(out, outputs, feed)
    binding = session.io_binding()
    _bind_inputs(binding, feed)
    for info in outputs:
        if info.name in out:
            _bind_output(binding, info.name, out[info.name])
        else:
            binding.bind_output(info.name)
    _run(session, binding)
    values = binding.get_outputs()
    return {
        info.name: out[info.name] if info.name in out else value.numpy()
        for info, value in zip(outputs, values, strict=True)
    }


class Binding:
    """Repeated runs of one shape: write into `inputs`, `run`, read `outputs`. For one thread at a time.

    Args:
        session: ONNX Runtime's own.
        check: checks inputs, as before every run.
        outputs: the model's.
        inputs: every input's name to its array.
        out: an output's name to the array that takes it.
        device: the index of the GPU; None on the CPU.

    Attributes:
        inputs: the arrays that a run reads. On the CPU the caller's own, where they are in C order; on a GPU copies in
            page-locked memory.
        outputs: the arrays that a run writes: the caller's own, or new ones (page-locked for a GPU) with the shapes
            that a first run gave.

    Raises:
        InputError: an input does not fit.
        OutputBufferError: an array of `out` does not fit its output.
    """

    def __init__(
        self,
        session: onnxruntime.InferenceSession,
        check: Check,
        outputs: Sequence[TensorInfo],
        inputs: Mapping[str, Any],
        out: Mapping[str, np.ndarray],
        device: int | None,
    ) -> None:
        self._session, self._check, self._device = session, check, device
        feed = check(inputs)
        check_out(out, outputs, feed)
        self.inputs = {name: self._own(name, array) for name, array in feed.items()}
        missing = [info.name for info in outputs if info.name not in out]
        self.outputs: dict[str, np.ndarray] = {}
        if missing:
            sized = dict(zip(missing, _answers(session, missing, self.inputs), strict=True))
        for info in outputs:
            if info.name in out:
                self.outputs[info.name] = out[info.name]
            else:
                self.outputs[info.name] = self._empty(sized[info.name].shape, sized[info.name].dtype)
        self._binding = session.io_binding()
        _bind_inputs(self._binding, self.inputs)
        for name, array in self.outputs.items():
            _bind_output(self._binding, name, array)

    def run(self) -> dict[str, np.ndarray]:
        """Run on what `inputs` holds now.

        Returns:
            `outputs`, the same arrays each time, written over.

        Raises:
            InputError: a value does not fit: a length beyond the steps, an id beyond its table.
            OutputBufferError: an output's shape depends on values, and is another than the buffer's now.
        """
        self._check(self.inputs)
        _run(self._session, self._binding)
        return self.outputs

    def _own(self, name: str, array: Any) -> np.ndarray:
        _require_tensor(name, array)
        if self._device is None:
            return np.require(array, requirements="C")
        copy = self._empty(array.shape, array.dtype)
        copy[...] = array
        return copy

    def _empty(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        return np.empty(shape, dtype) if self._device is None else pinned_empty(shape, dtype, self._device)


def check_out(out: Mapping[str, np.ndarray], outputs: Sequence[TensorInfo], feed: Mapping[str, Any]) -> None:
    """Refuse arrays that cannot take their outputs, as far as that can be known before the run.

    Raises:
        OutputBufferError: the name, type, dtype, shape or memory of one does not fit.
    """
    known = {info.name: info for info in outputs}
    others = [(f"input {name!r}", array) for name, array in feed.items() if isinstance(array, np.ndarray)]
    for name, array in out.items():
        if name not in known:
            raise OutputBufferError(f"out has {name!r}, expected outputs of the model: {', '.join(map(repr, known))}")
        if not isinstance(array, np.ndarray):
            raise OutputBufferError(f"out[{name!r}] is a {type(array).__name__}, expected a NumPy array to write into")
        _check_form(name, array, known[name])
        if not array.flags.writeable:
            raise OutputBufferError(f"out[{name!r}] is read-only, expected a writeable array, such as np.empty(...)")
        if not array.flags.c_contiguous:
            raise OutputBufferError(
                f"out[{name!r}] is a view with gaps or in another order, expected one in C order, such as np.empty(...)"
            )
        for other, memory in others:
            if np.may_share_memory(array, memory):
                raise OutputBufferError(
                    f"out[{name!r}] shares memory with {other}, expected an array of its own: "
                    "a run reads the one while it writes the other"
                )
        others.append((f"out[{name!r}]", array))


def _check_form(name: str, array: np.ndarray, info: TensorInfo) -> None:
    dtype = numpy_dtype(info.dtype)
    if dtype is None or dtype.kind in "OSU":
        raise OutputBufferError(f"output {name!r} is {info.dtype}, which no array of numbers can take: leave it out")
    if array.dtype != dtype:
        raise OutputBufferError(f"out[{name!r}] is {array.dtype}, expected {dtype}")
    if not info.axes:  # a plain file that does not say
        return
    sizes = zip(info.axes, array.shape, strict=False)
    if len(info.axes) != array.ndim or any(type(axis) is int and axis != size for axis, size in sizes):
        raise OutputBufferError(f"out[{name!r}] has the shape {_shape(array.shape)}, expected {_shape(info.axes)}")


def _require_tensor(name: str, array: Any) -> None:
    if not isinstance(array, np.ndarray) or array.dtype.kind in "OSU":
        what = str(array.dtype) if isinstance(array, np.ndarray) else type(array).__name__
        raise InputDtypeError(f"input {name!r} is {what}, and only arrays of numbers can be bound: use run without out")


def _bind_inputs(binding: onnxruntime.IOBinding, feed: Mapping[str, Any]) -> None:
    for name, array in feed.items():
        _require_tensor(name, array)
        binding.bind_cpu_input(name, np.require(array, requirements="C"))


def _bind_output(binding: onnxruntime.IOBinding, name: str, array: np.ndarray) -> None:
    binding.bind_output(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)


def _run(session: onnxruntime.InferenceSession, binding: onnxruntime.IOBinding) -> None:
    try:
        session.run_with_iobinding(binding)
    except Exception as error:  # ONNX Runtime's error types have no common root
        shapes = _SHAPES.search(str(error))
        if shapes is None:
            raise refused_value(error) from error
        raise OutputBufferError(
            f"output {shapes[1]!r} came out as {_shape(shapes[3].split(','))}, and its buffer has the shape "
            f"{_shape(shapes[2].split(','))}: give one of the answer's shape, or leave it out"
        ) from error


def _answers(
    session: onnxruntime.InferenceSession, names: list[str], feed: Mapping[str, np.ndarray]
) -> list[np.ndarray]:
    try:
        return [np.asarray(value) for value in session.run(names, dict(feed))]
    except Exception as error:
        raise refused_value(error) from error


def _shape(axes: Sequence[Any]) -> str:
    return f"[{', '.join(map(str, axes))}]"
