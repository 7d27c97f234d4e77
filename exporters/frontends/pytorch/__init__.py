"""PyTorch modules, traced by torch.export with their recurrent layers and packed sequences kept whole."""

from seqport.exporters.frontends.choose import declared_inputs as known_inputs
from seqport.exporters.frontends.pytorch.trace import trace

__all__ = ["known_inputs", "trace"]
