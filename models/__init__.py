"""What is deployed: a specification, its weights, and one definition of the model per framework.

A `ModelSpec` says what a model is and `Weights` holds its numbers, both without a framework. The oracle,
`seqport.models.pytorch` and `seqport.models.keras` each make the same model of them; only the last two
import a framework, and only when they are imported themselves.
"""

from seqport.models.errors import SpecError, WeightsError
from seqport.models.part import Part, TensorSpec
from seqport.models.spec import ModelSpec
from seqport.models.weights import Weights

__all__ = ["ModelSpec", "Part", "SpecError", "TensorSpec", "Weights", "WeightsError"]
