"""Opens a model in ONNX Runtime: the one place that makes an `InferenceSession`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from seqport.runtime.host import Host
from seqport.runtime.threads import ONE_POOL

if TYPE_CHECKING:
    import onnxruntime

CPU_PROVIDER = "CPUExecutionProvider"


def open_session(
    model: Path | bytes,
    host: Host,
    *providers: str | tuple[str, dict[str, str]],
    folder: Path | None = None,
    operators: Path | None = None,
    weights: Mapping[str, np.ndarray] | None = None,
) -> onnxruntime.InferenceSession:
    """A model, opened on these providers, in order of preference.

    Args:
        model: an ONNX file, or the bytes of one.
        host: its threads and memory.
        providers: names of ONNX Runtime's, some with options.
        folder: where the weights beside a model of bytes are.
        operators: a library of operators that the model has beside ONNX's.
        weights: initializers that a model of bytes has as external data, by name; they are copied.

    Raises:
        ProviderError: threads were asked for, and the process has one pool for all.
        Exception: whatever ONNX Runtime raises; its error types have no common root.
    """
    try:
        return _open(model, host.options(), providers, folder, operators, weights)
    except Exception as error:
        if ONE_POOL not in str(error):
            raise
    # Another part of the process has made one pool for all sessions.
    return _open(model, host.options(one_pool=True), providers, folder, operators, weights)


def _open(
    model: Path | bytes,
    options: onnxruntime.SessionOptions,
    providers: tuple[Any, ...],
    folder: Path | None,
    operators: Path | None,
    weights: Mapping[str, np.ndarray] | None,
) -> onnxruntime.InferenceSession:
    import onnxruntime

    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    if folder is not None:
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(folder.resolve()))
    if operators is not None:
        options.register_custom_ops_library(str(operators))
    if weights:
        values = [onnxruntime.OrtValue.ortvalue_from_numpy(array) for array in weights.values()]
        options.add_external_initializers(list(weights), values)
    # Without ONNX Runtime's own fallback, which prints to stdout and changes the provider.
    session = onnxruntime.InferenceSession(model, options, list(providers), enable_fallback=0)
    # It would keep the bytes for that fallback, as many again as the weights.
    session._model_bytes = None
    return session
