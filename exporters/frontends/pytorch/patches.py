"""Put the traced forms in place of PyTorch's own while a module is traced, and take them back."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import FunctionType

from torch import nn
from torch.nn.utils import rnn

from seqport.exporters.frontends.patching import attribute
from seqport.exporters.frontends.pytorch.cells import cell_forward
from seqport.exporters.frontends.pytorch.declared import declared_forward, is_declared
from seqport.exporters.frontends.pytorch.integers import integers_symbolic
from seqport.exporters.frontends.pytorch.layers import forward
from seqport.exporters.frontends.pytorch.numbers import numbers_traced
from seqport.exporters.frontends.pytorch.projection import projections

# The patches are global to the process, so one export traces at a time.
_LOCK = threading.RLock()


@contextmanager
def recurrent_layers_whole(module: nn.Module) -> Iterator[None]:
    """Within this block the module's recurrent layers trace to neutral nodes."""
    with _LOCK, numbers_traced(), integers_symbolic(module), ExitStack() as stack:
        for layer in (nn.RNN, nn.GRU, nn.LSTM):
            stack.enter_context(attribute(layer, "forward", forward))
        for cell in (nn.RNNCell, nn.GRUCell, nn.LSTMCell):
            stack.enter_context(attribute(cell, "forward", cell_forward))
        # Modules bind these two by name (`from torch.nn.utils.rnn import ...`), so the function
        # object itself must change: its code is replaced, not the name that leads to it.
        stack.enter_context(_code(rnn.pack_padded_sequence, _pack_padded_sequence))
        stack.enter_context(_code(rnn.pad_packed_sequence, _pad_packed_sequence))
        for name, child in module.named_modules():
            if is_declared(child):
                stack.enter_context(attribute(child, "forward", declared_forward(child, name or "the model")))
            elif isinstance(child, (nn.RNNBase, nn.RNNCellBase)):
                name = name or type(child).__name__
                stack.enter_context(attribute(child, "_seqport_name", name))
                if isinstance(child, nn.LSTM) and child.proj_size:
                    stack.enter_context(attribute(child, "_seqport_projections", projections(child, name)))
        yield


def _pack_padded_sequence(input, lengths, batch_first=False, enforce_sorted=True):
    from seqport.exporters.frontends.pytorch.packed import pack

    return pack(input, lengths, batch_first, enforce_sorted)


def _pad_packed_sequence(sequence, batch_first=False, padding_value=0.0, total_length=None):
    from seqport.exporters.frontends.pytorch.packed import pad

    return pad(sequence, batch_first, padding_value, total_length)


@contextmanager
def _code(function: FunctionType, replacement: FunctionType) -> Iterator[None]:
    before = function.__code__
    function.__code__ = replacement.__code__
    try:
        yield
    finally:
        function.__code__ = before
