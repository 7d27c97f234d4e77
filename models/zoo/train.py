"""The one trainer of the zoo: `python -m seqport.models.zoo.train NAME...` writes a task's weights and score."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import version
from time import perf_counter

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from seqport.models.part import Part
from seqport.models.pytorch import build
from seqport.models.weights import Weights
from seqport.models.zoo import get, names, weights_path
from seqport.models.zoo.score import Run, evaluate
from seqport.models.zoo.task import PADDING, START, Recipe, Split, Task

# Called after each epoch with its number (from 1), the number of epochs, and its mean loss.
Progress = Callable[[int, int, float], None]


def train(name: str, *, progress: Progress | None = None) -> Weights:
    """Train a task by its recipe and measure it on its test split.

    Returns:
        The weights; their metadata says the score and what led to it.
    """
    task = get(name)
    data = task.load()
    weights = fit(task, data.train, task.recipe, progress)
    # Measured on the weights as they are kept, with a layer's two biases folded into one.
    result = evaluate(task, data.test, pytorch_runs(weights))
    metadata = {
        "task": task.name,
        "score_name": task.score_name,
        "score": repr(result.score),
        "margin": f"{result.margin:.2e}",
        "source": task.source,
        "packages": packages(task),
        "torch": version("torch"),
        "seed": str(task.recipe.seed),
        "epochs": str(task.recipe.epochs),
    }
    return Weights(task.spec, weights, metadata)


def fit(task: Task, rows: Split, recipe: Recipe, progress: Progress | None = None) -> Weights:
    """Train the parts of a task together, from PyTorch's random weights, with Adam and one cycle of its rate."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        modules = nn.ModuleDict({part.name: build(part) for part in task.spec.parts()})
    batches_per_epoch = -(-len(rows) // recipe.batch_size)
    optimizer = torch.optim.Adam(modules.parameters(), recipe.learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, recipe.learning_rate, total_steps=batches_per_epoch * recipe.epochs
    )
    rng = np.random.default_rng(recipe.seed)
    for epoch in range(1, recipe.epochs + 1):
        total = 0.0
        for batch in _batches(rows, recipe.batch_size, rng):
            loss = _loss(task, modules, batch)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(modules.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            total += loss.item()
        if progress:
            progress(epoch, recipe.epochs, total / batches_per_epoch)
    states = {name: _arrays(module) for name, module in modules.items()}
    return Weights.from_pytorch(task.spec, states)


def pytorch_runs(weights: Weights) -> dict[str, Run]:
    """Every part of a model in PyTorch, as `evaluate` takes it."""
    return {part.name: _run(part, build(part, weights).eval()) for part in weights.spec.parts()}


def packages(task: Task) -> str:
    """The installed versions of what a task's data depends on."""
    return ", ".join(f"{package} {version(package)}" for package in task.packages)


def _batches(rows: Split, batch_size: int, rng: np.random.Generator) -> Iterator[Split]:
    order = rng.permutation(len(rows))
    for start in range(0, len(rows), batch_size):
        yield rows.take(order[start : start + batch_size])


def _loss(task: Task, modules: nn.ModuleDict, batch: Split) -> Tensor:
    """The mean loss over what counts: the negative log likelihood, or the squared error."""
    spec, targets = task.spec, torch.from_numpy(batch.targets)
    if spec.strategy == "encoder_decoder":
        states = modules["encoder"](*_tensors(spec.parts()[0], batch.inputs))
        # Teacher forcing: the true tokens go in, one step late, behind the start token.
        start = torch.full((len(batch), 1), task.answers.index(START))
        lengths = (targets != PADDING).sum(1)
        output, *_ = modules["decoder"](torch.cat([start, targets[:, :-1]], 1), lengths, *states)
    else:
        lengths = torch.from_numpy(batch.lengths)
        output, *_ = modules["model"](*_tensors(spec.parts()[0], batch.inputs))
    if spec.parts()[-1].every_step:
        real = torch.arange(output.size(1)) < lengths[:, None]
        output, targets = output[real], targets[real]
    if spec.output == "softmax":
        return functional.nll_loss(output.clamp_min(1e-12).log(), targets)
    if spec.output == "sigmoid":
        return functional.binary_cross_entropy(output, targets)
    return functional.mse_loss(output, targets)


def _tensors(part: Part, inputs: Mapping[str, np.ndarray]) -> list[Tensor]:
    return [torch.from_numpy(inputs[tensor.name]) for tensor in part.inputs]


def _arrays(module: nn.Module) -> dict[str, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in module.state_dict().items()}


def _run(part: Part, module: nn.Module) -> Run:
    def run(inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        with torch.inference_mode():
            outputs = module(*_tensors(part, inputs))
        return dict(zip(part.outputs, (output.numpy() for output in outputs), strict=True))

    return run


def _print_progress(epoch: int, epochs: int, loss: float) -> None:
    print(f"  epoch {epoch:>2} of {epochs}: loss {loss:.3g}", flush=True)


def main(chosen: list[str]) -> None:
    """Train these tasks, or all, and write their weights."""
    for name in chosen or names():
        started = perf_counter()
        print(name, flush=True)
        weights = train(name, progress=_print_progress)
        weights.save(weights_path(name))
        about = weights.metadata
        print(f"  {about['score_name']} {about['score']}, margin {about['margin']}, {perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main(sys.argv[1:])
