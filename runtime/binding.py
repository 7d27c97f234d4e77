"""Runs that read and write arrays in place: a caller's own output arrays, or buffers that are kept for many runs."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from seqport.runtime.artifact import TensorInfo
from seqport.runtime.axis_sizes import AxisSizes
from seqport.runtime.convert import numpy_dtype
from seqport.runtime.errors import InputDtypeError, OutputBufferError, refused_value
from seqport.runtime.pinned import pinned_empty

if TYPE_CHECKING:
    import onnxruntime

Check = Callable[[Mapping[str, Any]], dict[str, Any]]
# ONNX Runtime's words for a buffer of another shape than the answer; on a GPU it does not say which.
_SHAPES = re.compile(
    r"output '(.+?)' of node .*? has shape \{([\d,]*)\} but the computed output shape .*? is \{([\d,]*)\}"
)
_SIZES = re.compile(r"Tensor size mismatch. src:\{([\d,]*)\} dst:\{([\d,]*)\}")
# And before the run, where the file gives an output's sizes.
_FIXED = re.compile(r"Got invalid dimensions for output: (\S+) for the following indices((?:\s+index: \d+ Got: .*)+)")


class Outputs:
    """A model's outputs, and which arrays can take them; worked out once, because a run asks for it.

    Args:
        infos: the outputs.
        inputs: the model's, which the sizes of outputs follow from.
    """

    def __init__(self, infos: Sequence[TensorInfo], inputs: Sequence[TensorInfo]) -> None:
        self._sizes = AxisSizes(inputs)
        self.names = tuple(info.name for info in infos)
        self._infos = {info.name: info for info in infos}
        self._plain = {info.name: (numpy_dtype(info.dtype), info.axes) for info in infos}

    def check(self, out: Mapping[str, np.ndarray], feed: Mapping[str, Any]) -> None:
        """Refuse arrays that cannot take their outputs, as far as that can be known before the run.

        Raises:
            OutputBufferError: the name, type, dtype, shape or memory of one does not fit.
        """
        seen = [(name, array, True) for name, array in feed.items() if isinstance(array, np.ndarray)]
        for name, array in out.items():
            if name not in self._plain or type(array) is not np.ndarray:
                self._refuse_kind(name, array)
            dtype, axes = self._plain[name]
            flags, shape = array.flags, array.shape
            # ONNX Runtime itself compares no more than the number of elements where an answer comes from a GPU.
            expected = self._sizes.shape(axes, feed)
            if array.dtype != dtype or (axes and not _fits(expected, shape)) or array.dtype.kind in "OSU":
                self._refuse_form(name, array, expected)
            if not (flags.c_contiguous and flags.writeable):
                _refuse_memory(name, array)
            for other, memory, is_input in seen:
                if np.may_share_memory(array, memory):
                    what = f"input {other!r}" if is_input else f"out[{other!r}]"
                    raise OutputBufferError(
                        f"out[{name!r}] shares memory with {what}, expected an array of its own: "
                        "a run reads the one while it writes the other"
                    )
            seen.append((name, array, False))

    def _refuse_kind(self, name: str, array: Any) -> None:
        if name not in self._infos:
            known = ", ".join(map(repr, self.names))
            raise OutputBufferError(f"out has {name!r}, expected outputs of the model: {known}")
        if not isinstance(array, np.ndarray):
            raise OutputBufferError(f"out[{name!r}] is a {type(array).__name__}, expected a NumPy array to write into")

    def _refuse_form(self, name: str, array: np.ndarray, expected: Sequence[str | int]) -> NoReturn:
        info, dtype = self._infos[name], self._plain[name][0]
        if dtype is None or dtype.kind in "OSU":
            raise OutputBufferError(
                f"output {name!r} is {info.dtype}, which no array of numbers can take: leave it out"
            )
        if array.dtype != dtype:
            raise OutputBufferError(f"out[{name!r}] is {array.dtype}, expected {dtype}")
        raise OutputBufferError(f"out[{name!r}] has the shape {_shape(array.shape)}, expected {_shape(expected)}")


def run_into(
    session: onnxruntime.InferenceSession,
    feed: Mapping[str, Any],
    outputs: Outputs,
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
    outputs.check(out, feed)
    binding = session.io_binding()
    _bind_inputs(binding, feed)
    for name in outputs.names:
        if name in out:
            _bind_output(binding, name, out[name])
        else:
            binding.bind_output(name)
    _run(session, binding)
    if len(out) == len(outputs.names):
        return {name: out[name] for name in outputs.names}
    values = zip(outputs.names, binding.get_outputs(), strict=True)
    return {name: out[name] if name in out else value.numpy() for name, value in values}


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
        inputs: the arrays that a run reads; write into them, and put no others in their place. On the CPU the caller's
            own, where they are in C order; on a GPU copies in page-locked memory.
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
        outputs: Outputs,
        inputs: Mapping[str, Any],
        out: Mapping[str, np.ndarray],
        device: int | None,
    ) -> None:
        self._session, self._check, self._device = session, check, device
        feed = check(inputs)
        outputs.check(out, feed)
        self.inputs = {name: self._own(name, array) for name, array in feed.items()}
        missing = [name for name in outputs.names if name not in out]
        self.outputs: dict[str, np.ndarray] = {}
        sized = dict(zip(missing, _answers(session, missing, self.inputs), strict=True)) if missing else {}
        for name in outputs.names:
            self.outputs[name] = out[name] if name in out else self._empty(sized[name].shape, sized[name].dtype)
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
        if self._device is not None:  # ONNX Runtime copies an input to the GPU when it is bound, not when it runs
            _bind_inputs(self._binding, self.inputs)
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


def _fits(axes: tuple[str | int, ...], shape: tuple[int, ...]) -> bool:
    if len(axes) != len(shape):
        return False
    return all(type(axis) is str or axis == size for axis, size in zip(axes, shape, strict=True))


def _refuse_memory(name: str, array: np.ndarray) -> NoReturn:
    what = "a view with gaps or in another order" if array.flags.writeable else "read-only"
    raise OutputBufferError(f"out[{name!r}] is {what}, expected a writeable array in C order, such as np.empty(...)")


def _require_tensor(name: str, array: Any) -> None:
    if not isinstance(array, np.ndarray) or array.dtype.kind in "OSU":
        what = str(array.dtype) if isinstance(array, np.ndarray) else type(array).__name__
        raise InputDtypeError(f"input {name!r} is {what}, and only arrays of numbers can be bound: use run without out")


def _bind_inputs(binding: onnxruntime.IOBinding, feed: Mapping[str, Any]) -> None:
    for name, array in feed.items():
        _require_tensor(name, array)
        binding.bind_cpu_input(name, np.require(array, requirements="C"))


def _bind_output(binding: onnxruntime.IOBinding, name: str, array: np.ndarray) -> None:
    import onnxruntime

    binding.bind_ortvalue_output(name, onnxruntime.OrtValue.ortvalue_from_numpy(array))


def _run(session: onnxruntime.InferenceSession, binding: onnxruntime.IOBinding) -> None:
    try:
        session.run_with_iobinding(binding)
    except Exception as error:  # ONNX Runtime's error types have no common root
        raise _refused(error) from error


def _refused(error: Exception) -> Exception:
    shapes, sizes, fixed = (pattern.search(str(error)) for pattern in (_SHAPES, _SIZES, _FIXED))
    if fixed:
        indices = " ".join(fixed[2].split())
        return OutputBufferError(f"out[{fixed[1]!r}] has another shape than the answer: {indices}")
    if shapes:
        name, buffer, answer = f"output {shapes[1]!r}", shapes[2], shapes[3]
    elif sizes:
        name, answer, buffer = "an output", sizes[1], sizes[2]
    else:
        return refused_value(error)
    return OutputBufferError(
        f"{name} came out as {_shape(answer.split(','))}, and its buffer has the shape "
        f"{_shape(buffer.split(','))}: give one of the answer's shape, or leave it out"
    )


def is_of_shapes(error: Exception) -> bool:
    """Whether an answer had another shape than the array that was to take it."""
    return any(pattern.search(str(error)) for pattern in (_SHAPES, _SIZES, _FIXED))


def _answers(
    session: onnxruntime.InferenceSession, names: list[str], feed: Mapping[str, np.ndarray]
) -> list[np.ndarray]:
    try:
        return [np.asarray(value) for value in session.run(names, dict(feed))]
    except Exception as error:
        raise refused_value(error) from error


def _shape(axes: Sequence[Any]) -> str:
    return f"[{', '.join(map(str, axes))}]"
