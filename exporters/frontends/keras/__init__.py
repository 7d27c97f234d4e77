"""Live models of Keras 3 on TensorFlow and of tf_keras, their recurrent layers kept whole and masks exact."""

from seqport.exporters.frontends.keras.call import known_inputs
from seqport.exporters.frontends.keras.trace import trace

__all__ = ["known_inputs", "trace"]
