"""Which recurrent nodes ONNX Runtime's CUDA provider leaves to the CPU, and why.

Its kernels are cuDNN's, which know the default cells alone. The rule is ONNX Runtime's own, read from
`RNNNeedFallbackToCPU` in its CUDA provider; here it is stated once, for whoever reads graphs by whatever means.
https://github.com/microsoft/onnxruntime/blob/main/onnxruntime/core/providers/cuda/cuda_execution_provider.cc
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

QUANTISED_LSTM = "DynamicQuantizeLSTM"
# Activations of one direction, where the node names none.
DEFAULT_ACTIVATIONS = {"RNN": ("Tanh",), "GRU": ("Sigmoid", "Tanh"), "LSTM": ("Sigmoid", "Tanh", "Tanh")}
_PEEPHOLES = 7  # position among an LSTM's inputs


def beyond_cudnn(op_type: str, attributes: Mapping[str, Any], inputs: Sequence[str | None]) -> list[str]:
    """What of a recurrent node cuDNN does not compute, each as a noun; empty where CUDA runs the node.

    Args:
        op_type: "RNN", "GRU", "LSTM" or "DynamicQuantizeLSTM".
        attributes: those that the node has, by name; strings as str.
        inputs: the names of its inputs in order, None or "" where one is left out.
    """
    if op_type == QUANTISED_LSTM:
        return ["int8 arithmetic"]
    found = []
    activations = attributes.get("activations") or ()
    # The list may be of one direction or of both.
    defaults = DEFAULT_ACTIVATIONS[op_type] * 2
    if any(name.lower() != default.lower() for name, default in zip(activations, defaults, strict=False)):
        found.append(f"the activations {', '.join(activations)}")
    elif "activation_alpha" in attributes or "activation_beta" in attributes:
        found.append("activation_alpha or activation_beta")  # being there is enough, even beside Tanh
    if op_type == "GRU" and not attributes.get("linear_before_reset", 0):
        found.append("the reset gate before the product (linear_before_reset=0)")
    if "clip" in attributes:
        found.append("clip")
    if op_type == "LSTM" and attributes.get("input_forget", 0):
        found.append("input_forget")
    if op_type == "LSTM" and len(inputs) > _PEEPHOLES and inputs[_PEEPHOLES]:
        found.append("peepholes")
    return found
