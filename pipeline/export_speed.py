"""How long an export takes: a two-layer bidirectional tagger, warm, beside the frameworks' own exporters."""

from __future__ import annotations

import cProfile
import pstats
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

from seqport.models import ModelSpec, Part, Weights
from seqport.pipeline.build import export_part, framework_model
from seqport.pipeline.report import Step, Table

# What an export of the tagger may take, by framework.
SECONDS_ALLOWED = {"pytorch": 1.5, "keras": 2.0}
_ROUNDS = 5
_SPEC = ModelSpec(
    cell="lstm",
    input_dim=32,
    num_hidden_units=64,
    out_dim=7,
    seq_max_len=50,
    strategy="many_to_many",
    num_layers=2,
    bidirectional=True,
    vocab_size=100,
)
_PEERS = {"pytorch": "torch.onnx, TorchScript", "keras": "tf2onnx"}

Export = Callable[[Path], object]


@dataclass(frozen=True)
class Speed:
    """Exports of the tagger from one framework.

    Attributes:
        framework: "pytorch" or "keras".
        seconds: exporter → seconds, a value a round; seqport's first.
        shares: phase of seqport's export → its share of a profiled run.
        failed: why the peer wrote no file; empty where it did.
    """

    framework: str
    seconds: dict[str, list[float]]
    shares: dict[str, float]
    failed: str = ""

    @property
    def own(self) -> float:
        """The median of seqport's rounds."""
        return median(self.seconds["seqport"])


def measure(step: Step = lambda _: None, *, rounds: int = _ROUNDS) -> list[Speed]:
    """Export the tagger from both frameworks, in turns with each framework's own exporter."""
    (part,) = _SPEC.parts()
    weights = Weights.random(_SPEC, seed=0)
    found = []
    for framework in SECONDS_ALLOWED:
        found.append(_measured(framework, part, weights, rounds))
        step(f"{framework} tagger")
    return found


def table(speeds: Sequence[Speed]) -> Table:
    """One line an exporter; red where seqport takes longer than it may."""
    found = Table(
        "exports of a two-layer bidirectional tagger, warm: median seconds", ["from", "by", "seconds", "rounds"]
    )
    for speed in speeds:
        for name, rounds in speed.seconds.items():
            slow = name == "seqport" and speed.own > SECONDS_ALLOWED[speed.framework]
            spread = f"{min(rounds):.2f}–{max(rounds):.2f}"
            found.add(speed.framework, name, f"{median(rounds):.2f}", spread, red=slow)
        allowed = SECONDS_ALLOWED[speed.framework]
        verdict = "within" if speed.own <= allowed else "MORE THAN"
        shares = ", ".join(f"{phase} {share:.0%}" for phase, share in speed.shares.items())
        found.notes.append(f"{speed.framework}: {verdict} the {allowed:.1f} s allowed; {shares}")
        if speed.failed:
            found.notes.append(f"{_PEERS[speed.framework]} wrote no file: {speed.failed}")
    return found


def to_json(speeds: Sequence[Speed]) -> list[dict[str, Any]]:
    """The measurements as plain data."""
    return [{**vars(speed), "allowed": SECONDS_ALLOWED[speed.framework]} for speed in speeds]


def _measured(framework: str, part: Part, weights: Weights, rounds: int) -> Speed:
    calls: dict[str, Export] = {"seqport": lambda path: export_part(part, weights, framework, path)}
    failed = ""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tagger.onnx"
        calls["seqport"](path)  # the first export also imports what a framework loads lazily
        peer = _PEER_EXPORTS[framework](part, weights)
        try:
            with _quiet():
                peer(path)
        except Exception as error:
            failed = f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"
        else:
            calls[_PEERS[framework]] = peer
        seconds: dict[str, list[float]] = {name: [] for name in calls}
        for turn in range(rounds):
            for name in calls if turn % 2 == 0 else reversed(calls):
                started = perf_counter()
                with _quiet():
                    calls[name](path)
                seconds[name].append(perf_counter() - started)
        return Speed(framework, seconds, _shares(lambda: calls["seqport"](path)), failed)


def _shares(call: Callable[[], object]) -> dict[str, float]:
    """Where the time goes, by phase, in one profiled export."""
    from seqport.exporters import export as whole
    from seqport.exporters.export import write
    from seqport.exporters.frontends.keras.trace import trace as keras_trace
    from seqport.exporters.frontends.pytorch.trace import trace as pytorch_trace
    from seqport.exporters.passes import PASSES
    from seqport.exporters.passes.contract import check_contract
    from seqport.exporters.passes.probe import probe

    profile = cProfile.Profile()
    profile.runcall(call)
    statistics: Any = pstats.Stats(profile)
    cumulative = {key: value[3] for key, value in statistics.stats.items()}

    def spent(*functions: Callable[..., Any]) -> float:
        codes = [function.__code__ for function in functions]
        return sum(cumulative.get((c.co_filename, c.co_firstlineno, c.co_name), 0.0) for c in codes)

    phases = {
        "trace": spent(keras_trace, pytorch_trace),
        "passes": spent(*PASSES),
        "proof": spent(probe),
        "contract": spent(check_contract),
        "write": spent(write),
    }
    total = spent(whole)
    return {name: seconds / total for name, seconds in phases.items()}


def _torchscript(part: Part, weights: Weights) -> Export:
    import torch

    model = framework_model(part, weights, "pytorch")
    ids, lengths = torch.ones(3, 7, dtype=torch.int64), torch.tensor([7, 4, 1])
    axes = {name: {i: axis for i, axis in enumerate(axes) if isinstance(axis, str)} for name, axes, _ in part.inputs}
    return lambda path: torch.onnx.export(
        model, (ids, lengths), str(path), input_names=list(axes), dynamic_axes=axes, dynamo=False, opset_version=18
    )


def _tf2onnx(part: Part, weights: Weights) -> Export:
    import tf2onnx

    model = framework_model(part, weights, "keras")
    return lambda path: tf2onnx.convert.from_keras(model, opset=18, output_path=str(path))


_PEER_EXPORTS: dict[str, Callable[[Part, Weights], Export]] = {"pytorch": _torchscript, "keras": _tf2onnx}


@contextmanager
def _quiet() -> Iterator[None]:
    """What exporters warn of says nothing here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
