"""TensorFlow without a live Keras 3 model: functions, SavedModels, frozen graphs and tf_keras, their loops lifted."""

from seqport.exporters.frontends.tensorflow.trace import known_inputs, trace

__all__ = ["known_inputs", "trace"]
