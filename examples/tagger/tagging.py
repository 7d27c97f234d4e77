"""Two taggers as users write them: ids and lengths in, a label's logits at each step out."""

from __future__ import annotations

from typing import Any


def pytorch_tagger(num_hidden_units: int = 32) -> Any:
    """A bidirectional LSTM over packed sequences, in PyTorch."""
    import torch
    from torch import Tensor, nn
    from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

    class Tagger(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(100, 16)
            self.lstm = nn.LSTM(16, num_hidden_units, batch_first=True, bidirectional=True)
            self.head = nn.Linear(2 * num_hidden_units, 7)

        def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
            packed = pack_padded_sequence(self.embedding(ids), lengths, batch_first=True, enforce_sorted=False)
            y, _ = pad_packed_sequence(self.lstm(packed)[0], batch_first=True, total_length=ids.size(1))
            return self.head(y)

    torch.manual_seed(0)  # in place of training, and so that every build gives the same file
    return Tagger()


def keras_tagger(num_hidden_units: int = 32) -> Any:
    """The same network in Keras; the mask comes from the ids that are 0."""
    import keras

    keras.utils.set_random_seed(0)
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((None,), dtype="int64", name="ids"),
            layers.Embedding(100, 16, mask_zero=True),
            layers.Bidirectional(layers.LSTM(num_hidden_units, return_sequences=True), name="lstm"),
            layers.Dense(7),
        ]
    )
