"""The outcomes as a page: what was measured where, summaries, pictures, where seqport loses, and all numbers."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

from seqport.pipeline.bench import quick
from seqport.pipeline.bench.chart import batches_chart, streams_chart
from seqport.pipeline.bench.contestants.entry import REFERENCE
from seqport.pipeline.bench.contestants.sgemm import flops
from seqport.pipeline.bench.race import TOLERANCE
from seqport.pipeline.bench.sections import (
    Run,
    failures,
    lists,
    losses,
    numbers,
    of_kind,
    pictured,
    pictures,
    ratios,
    streams,
)
from seqport.pipeline.bench.tables import table
from seqport.pipeline.bench.view import limit_of

_METHOD = f"""\
All contestants of a case were measured in turns, round by round, in processes that wait for each other. A number is
the median of its rounds, ± half the distance between the quartiles; a ratio is the median of the rounds' ratios.

- **Models**: one layer, 64 inputs, random weights, the same for all. Before anything is timed, every answer at valid
  steps is compared with {REFERENCE}'s, within {TOLERANCE:g}; who is wrong is not timed.
- **Batches**: 100 steps. At 100 % all rows are alike, at 60 % lengths are uniform, at 20 % exponential; one row is as
  long as the batch.
"""
_CPU_METHOD = """\
- **Limit**: the matrix products of the valid steps alone, by the faster of PyTorch's and NumPy's sgemm, in the same
  rounds.
- **PyTorch compiled** is `torch.compile` as it comes, which leaves recurrent layers out of its graph; **compiled
  whole** has `allow_rnn` set, writes every step out, and was tried on the smallest size, for 90 s.
- **seqport on ONNX Runtime's nodes** is `Session(kernels="onnxruntime")`, what runs where seqport's own operators were
  not built. It and PyTorch compiled were left out at 1024 units.
- **Keras** is the masked layer as one `tf.function`; **tf2onnx Loop** is what tf2onnx makes of it, on ONNX Runtime.
- **OpenVINO** runs the artifact in float32, as everybody else; its own choice on such processors may be bfloat16.
"""
_GPU_METHOD = """\
- **seqport (CUDA)** is `Session.run`, from arrays of the host to arrays of the host, as ONNX Runtime (CUDA) is its own
  `run`; **seqport (bound)** is `Session.bind`, whose arrays lie in page-locked memory. **cuDNN** is PyTorch on the GPU,
  packed and padded, from the host and to the host. All in full float32, without TF32.
- **(device)**: input and output stay on the GPU, by ONNX Runtime's I/O binding, or as PyTorch's tensors. They do less
  than the others, and are not listed as faster.
- **PyTorch packed**, in the table of streams PyTorch, runs on the CPU of that machine.
"""
_REGRESSIONS = """\
## Checks for regressions

`make bench-quick` (`seqport bench quick`) measures these in under a minute and prints them as one JSON object. With
`--require 'KEY>=NUMBER'` or `'KEY<=NUMBER'`, as often as wanted, it exits with 1 where a bound is broken:

```
$ make bench-quick REQUIRE="ragged_b128_over_padded>=1.3 run_overhead_us<=20"
```
"""


def page(run: Run) -> tuple[str, dict[str, str]]:
    """The page in Markdown, and its pictures by file name."""
    drawn = {f"{grid.key}.svg": batches_chart(grid) for grid in pictured(run)}
    stepped = of_kind(run, "stream")
    if stepped:
        drawn["streams.svg"] = streams_chart(stepped)
    parts = [_head(run), ratios(run), losses(run), pictures(run), lists(run), streams(run), failures(run)]
    if not run.on_gpu:
        parts.append(_regressions())
    lines = [line for part in [*parts, numbers(run)] for line in part]
    return "\n".join(lines).rstrip() + "\n", drawn


def summary(run: Run) -> str:
    """What a terminal shows: the ratios, where seqport loses, and what was not timed."""
    return "\n".join([*ratios(run), *losses(run), *failures(run)]).rstrip()


def _head(run: Run) -> Iterator[str]:
    machine = run.machine
    yield f"# Speed, side by side{' on a GPU' if run.on_gpu else ''}"
    yield ""
    if not run.outcomes:
        yield f"**Not measured yet**: `{run.command}` writes the numbers here."
        yield ""
    elif run.missing:
        yield f"**A part of the grid**: {run.missing} of its cases were not measured. `{run.command}` measures all."
        yield ""
    if run.outcomes:
        yield f"Written by `{run.command}` on {' and '.join(run.dates)}."
    yield (_METHOD + (_GPU_METHOD if run.on_gpu else _CPU_METHOD)).rstrip()
    memory, system = f"{machine['memory_gb']} GB", machine["system"]
    where = f"{machine['processor']}, {machine['cores']} cores, {memory}, {system}, Python {machine['python']}"
    yield f"- **Machine**: {where}; load {machine['load']} before."
    yield f"- **Versions**: {', '.join(f'{name} {version}' for name, version in machine['packages'].items())}."
    said = "".join(f", {name}={value}" for name, value in machine["variables"].items())
    yield f"- **Threads**: every framework's own choice{said}."
    rates = [flops(o.case, o.valid_steps) / limit.median for o in run.outcomes if (limit := limit_of(o))]
    if rates:
        best, least = max(rates) / 1e9, min(rates) / 1e9
        yield f"- **sgemm** reached {best:.0f} GFLOP/s at best, {least:.1f} in the smallest products."
    foreign = [outcome.foreign for outcome in run.outcomes if outcome.foreign is not None]
    if foreign:
        shares = f"{median(foreign):.1%} of the machine in the median case, {max(foreign):.0%} in the worst"
        yield f"- **Others** took {shares}."
    yield ""


def _regressions() -> Iterator[str]:
    yield _REGRESSIONS
    said = ([f"`{name}`", key.said] for name, key in quick.keys().items())
    yield from table(["key", "what it is; an LSTM where no cell is named, 256 units"], said)
