"""TensorFlow without a live Keras model: functions, SavedModels and frozen graphs, their loops lifted."""

from seqport.exporters.frontends.tensorflow.trace import known_inputs, trace

__all__ = ["known_inputs", "trace"]
