"""A user's saved weights, put into the model that they belong to: all of them, or one clear error."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqport.pipeline.errors import PipelineError

if TYPE_CHECKING:
    from torch import nn

# Where training code keeps the state dict inside a checkpoint.
_NESTED = ("state_dict", "model_state_dict", "model", "module", "net", "weights")
# How many names a message lists.
_SHOWN = 3


def load_weights(model: Any, path: Path) -> None:
    """Load weights into a model: a state dict (.pt, .safetensors, or a checkpoint that holds one) or Keras's file.

    Raises:
        PipelineError: the file cannot be read, or does not fit the model; the model may then be half loaded.
    """
    if not path.exists():
        raise PipelineError(f"the weights {path} do not exist")
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(model, torch.nn.Module):
        _load_state_dict(model, path)
    elif hasattr(model, "load_weights"):  # a Keras or tf_keras model
        try:
            model.load_weights(str(path))
        except Exception as error:
            raise PipelineError(f"{path} does not fit {type(model).__name__}: {_first_line(error)}") from error
    else:
        raise PipelineError(f"{path} cannot be loaded: a {type(model).__name__} brings its own weights; leave them out")


def _load_state_dict(model: nn.Module, path: Path) -> None:
    from torch.nn.parameter import is_lazy

    state = _without_prefix(_state_dict(path), set(model.state_dict()))
    own = model.state_dict()
    lazy = [key for key, value in own.items() if is_lazy(value)]
    if lazy:
        raise PipelineError(
            f"{type(model).__name__} has lazy layers ({_listed(lazy)}): run the model once in its function"
        )
    missing, unknown = [key for key in own if key not in state], [key for key in state if key not in own]
    shapes = [
        f"{key} is {list(state[key].shape)} in the file and {list(own[key].shape)} in the model"
        for key in own
        if key in state and state[key].shape != own[key].shape
    ]
    faults = [
        *([f"it lacks {_listed(missing)}"] if missing else []),
        *([f"the model has no {_listed(unknown)}"] if unknown else []),
        *([_listed(shapes)] if shapes else []),
    ]
    if faults:
        raise PipelineError(f"{path} does not fit {type(model).__name__}: {'; '.join(faults)}")
    model.load_state_dict(state)


def _state_dict(path: Path) -> dict[str, Any]:
    """Name → tensor, found in the file or one level inside a checkpoint."""
    loaded = _read(path)
    for candidate in (loaded, *(loaded[key] for key in _NESTED if isinstance(loaded, Mapping) and key in loaded)):
        if isinstance(candidate, Mapping) and candidate and all(hasattr(v, "shape") for v in candidate.values()):
            return dict(candidate)
    what = (
        f"a dict of {_listed(list(map(str, loaded)))}" if isinstance(loaded, Mapping) else f"a {type(loaded).__name__}"
    )
    raise PipelineError(f"{path} holds {what}, and no state dict: save model.state_dict()")


def _read(path: Path) -> Any:
    import torch

    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise PipelineError(
            f"{path} holds more than tensors, and loading it would run its code: save model.state_dict() instead"
        ) from error
    except Exception as error:
        raise PipelineError(f"{path} cannot be read as PyTorch weights: {_first_line(error)}") from error


def _without_prefix(state: dict[str, Any], wanted: set[str]) -> dict[str, Any]:
    """The state without what wrappers (DataParallel, torch.compile) put before every name, where that fits."""
    stripped = state
    while stripped.keys() != wanted:
        heads = {key.partition(".")[0] for key in stripped}
        if len(heads) != 1 or not all("." in key for key in stripped):
            return state
        stripped = {key.partition(".")[2]: value for key, value in stripped.items()}
    return stripped


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0] or type(error).__name__
