"""Put the traced forms in place of PyTorch's own while a module is traced, and take them back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from types import CodeType, FunctionType
from typing import Any

from torch import nn
from torch.nn.utils import rnn

from seqport.exporters.frontends.patching import attribute, here, replaced
from seqport.exporters.frontends.pytorch.cells import cell_forward
from seqport.exporters.frontends.pytorch.datasizes import DataSizes
from seqport.exporters.frontends.pytorch.declared import declared_forward, is_declared
from seqport.exporters.frontends.pytorch.integers import integers_symbolic
from seqport.exporters.frontends.pytorch.layers import forward
from seqport.exporters.frontends.pytorch.numbers import numbers_traced
from seqport.exporters.frontends.pytorch.packed import pack as pack_padded_sequence
from seqport.exporters.frontends.pytorch.packed import pad as pad_packed_sequence
from seqport.exporters.frontends.pytorch.projection import projections
from seqport.exporters.frontends.pytorch.weights import weights_computed


@contextmanager
def recurrent_layers_whole(
    module: nn.Module, sizes: DataSizes, *, symbolic_int: bool, symbolic_range: bool
) -> Iterator[None]:
    """Within this block the module's recurrent layers trace to neutral nodes.

    Args:
        module: what is traced.
        sizes: sizes that depend on values.
        symbolic_int: whether `int(size)` and `len(x)` in the module's own files stay symbolic.
        symbolic_range: whether `range(size)` does.
    """
    with numbers_traced(), weights_computed(module), ExitStack() as stack:
        stack.enter_context(integers_symbolic(module, symbolic_int, with_range=symbolic_range))
        for layer in (nn.RNN, nn.GRU, nn.LSTM):
            stack.enter_context(replaced(layer, "forward", forward))
        for cell in (nn.RNNCell, nn.GRUCell, nn.LSTMCell):
            stack.enter_context(replaced(cell, "forward", cell_forward))
        stack.enter_context(_code(rnn.pack_padded_sequence, partial(pack_padded_sequence, sizes)))
        stack.enter_context(_code(rnn.pad_packed_sequence, pad_packed_sequence))
        for name, child in module.named_modules():
            path = name or type(child).__name__
            if is_declared(child):
                stack.enter_context(replaced(child, "forward", declared_forward(child, path)))
            elif isinstance(child, (nn.RNNBase, nn.RNNCellBase)):
                stack.enter_context(attribute(child, "_seqport_name", path))
                if isinstance(child, nn.LSTM) and child.proj_size:
                    stack.enter_context(attribute(child, "_seqport_projections", projections(child, path)))
        yield


@contextmanager
def _code(function: FunctionType, replacement: Callable[..., Any]) -> Iterator[None]:
    """Another code in a function object.

    Modules bind PyTorch's functions by name (`from torch.nn.utils.rnn import ...`), so the object itself must
    change, not the name that leads to it. The code finds what to call in the function's own attributes.
    """
    own = FunctionType(function.__code__, function.__globals__, function.__name__, function.__defaults__)
    code = _FORWARDING[function.__name__].__code__
    with attribute(function, "_seqport", here(replacement, own)), attribute_of_code(function, code):
        yield


@contextmanager
def attribute_of_code(function: FunctionType, code: CodeType) -> Iterator[None]:
    """Set a function's code, and set it back."""
    before, function.__code__ = function.__code__, code
    try:
        yield
    finally:
        function.__code__ = before


def _pack_padded_sequence(input, lengths, batch_first=False, enforce_sorted=True):
    from torch.nn.utils import rnn

    return rnn.pack_padded_sequence._seqport(input, lengths, batch_first, enforce_sorted)


def _pad_packed_sequence(sequence, batch_first=False, padding_value=0.0, total_length=None):
    from torch.nn.utils import rnn

    return rnn.pad_packed_sequence._seqport(sequence, batch_first, padding_value, total_length)


_FORWARDING = {"pack_padded_sequence": _pack_padded_sequence, "pad_packed_sequence": _pad_packed_sequence}
