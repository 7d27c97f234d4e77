"""Live Keras 3 models on TensorFlow, traced with their recurrent layers kept whole and their masks exact."""

from seqport.exporters.frontends.keras.call import known_inputs
from seqport.exporters.frontends.keras.trace import trace

__all__ = ["known_inputs", "trace"]
