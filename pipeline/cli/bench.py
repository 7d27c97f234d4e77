"""Commands that measure speed: the grid, its quick form, the GPU half, and the zoo's models."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from seqport.pipeline.cli.root import Json, app, write_json
from seqport.pipeline.cli.zoo import Folder, Models, chosen_models, exported, show_exports

if TYPE_CHECKING:
    from collections.abc import Sequence

    from seqport.pipeline.bench.cases import Case
    from seqport.pipeline.bench.store import Store

bench = typer.Typer(rich_markup_mode=None)
app.add_typer(bench, name="bench")

BenchFolder = Annotated[Path, typer.Option("--folder", help="Where artifacts and results are kept.")]
Page = Annotated[Path | None, typer.Option(help="The page to write, with its pictures in a folder beside it.")]
Seconds = Annotated[float, typer.Option(help="About so long for a case, beyond its three rounds at least.")]
Fresh = Annotated[bool, typer.Option("--fresh", help="Forget what was measured before.")]


@bench.callback(invoke_without_command=True)
def grid(
    context: typer.Context,
    cells: Annotated[str, typer.Option(help="Some of lstm,gru,rnn.")] = "lstm,gru,rnn",
    sizes: Annotated[str, typer.Option(help="Hidden units, some of 64,256,1024.")] = "64,256,1024",
    batches: Annotated[str, typer.Option(help="Rows, some of 1,8,32,128.")] = "1,8,32,128",
    fills: Annotated[str, typer.Option(help="Shares of valid steps, some of 1,0.6,0.2.")] = "1,0.6,0.2",
    directions: Annotated[str, typer.Option(help="Some of uni,bi.")] = "uni,bi",
    kinds: Annotated[str, typer.Option(help="Some of batch,stream,list.")] = "batch,stream,list",
    peers: Annotated[str | None, typer.Option(help="Who takes part, by name; everyone where left out.")] = None,
    seconds: Seconds = 3.5,
    folder: BenchFolder = Path("build/bench"),
    page: Page = None,
    fresh: Fresh = False,
) -> None:
    """Race seqport against ONNX Runtime, PyTorch, Keras and OpenVINO over cells, sizes, batches and fills.

    Goes on where it was ended: what the same code measured on the same machine is not measured again.
    """
    if context.invoked_subcommand is not None:
        return
    from seqport.pipeline.bench import cases
    from seqport.pipeline.bench.contestants.entry import entry_of
    from seqport.pipeline.bench.grid import run
    from seqport.pipeline.report import progress

    wanted = cases.grid(
        cells.split(","),
        _numbers("--sizes", sizes, int),
        _numbers("--batches", batches, int),
        _numbers("--fills", fills, float),
        directions.split(","),
        kinds.split(","),
    )
    names = None if peers is None else [entry_of(name.strip()).name for name in peers.split(",")]
    store, machine = _store(folder / "grid.jsonl", fresh=fresh)
    with progress("bench", len(wanted)) as step:
        run(wanted, store, folder, step, seconds=seconds, peers=names)
    shown = cases.grid() if page else wanted
    _write("make bench", shown, store, machine, page)


@bench.command()
def quick(
    require: Annotated[
        list[str] | None, typer.Option(help="A bound, KEY>=NUMBER or KEY<=NUMBER; exits with 1 where it is broken.")
    ] = None,
    seconds: Seconds = 1.5,
    folder: BenchFolder = Path("build/bench/quick"),
) -> None:
    """Measure the key ratios in under a minute and print them as JSON."""
    import json

    from seqport.pipeline.bench import quick as short
    from seqport.pipeline.report import progress

    keys = short.keys()
    bounds = short.requirements(require or [], keys)
    with progress("bench quick", len(short.cases_of(keys))) as step:
        result = short.measure(keys, folder, step, seconds=seconds)
    print(json.dumps(result.values, indent=2))
    if result.foreign > 0.1:
        _say(f"others took up to {result.foreign:.0%} of the machine meanwhile: measure again when it is quiet")
    broken = [said for bound in bounds if (said := bound.broken_by(result.values))]
    missing = [name for name, value in result.values.items() if value is None]
    for line in [*(f"not measured: {name}" for name in missing), *(result.reasons if missing else []), *broken]:
        _say(line)
    if broken or missing:
        raise typer.Exit(1)


@bench.command()
def gpu(
    seconds: Seconds = 2.0,
    folder: BenchFolder = Path("build/bench/gpu"),
    artifacts: Annotated[
        bool, typer.Option("--artifacts", help="Take the artifacts that were put into the folder; export none.")
    ] = False,
    export_only: Annotated[
        bool, typer.Option("--export-only", help="Export the artifacts into the folder, for another machine.")
    ] = False,
    page: Page = None,
    fresh: Fresh = False,
) -> None:
    """Race ONNX Runtime on CUDA against PyTorch with cuDNN; without a GPU, say why not and exit with 0."""
    from seqport.pipeline.bench import gpu as half
    from seqport.pipeline.bench.grid import export_all, run
    from seqport.pipeline.report import progress

    wanted = half.cases()
    if export_only:
        with progress("export", len({case.network for case in wanted})) as step:
            export_all(wanted, folder, step)
        return
    problem = half.problem()
    if problem:
        print(f"the GPU half of the benchmark was not run: {problem}")
        return
    store, machine = _store(folder / "gpu.jsonl", fresh=fresh)
    with progress("bench gpu", len(wanted)) as step:
        run(wanted, store, folder, step, seconds=seconds, device="cuda", make=not artifacts)
    _write("make gpu", wanted, store, {**machine, "processor": f"{half.device()}; {machine['processor']}"}, page)


@bench.command()
def zoo(names: Models = None, folder: Folder = Path("build"), as_json: Json = None) -> None:
    """Time the zoo's artifacts beside ONNX Runtime's own call, PyTorch and Keras, on real batches; and exports."""
    from seqport.pipeline import export_speed
    from seqport.pipeline.bench import zoo as races
    from seqport.pipeline.report import progress, show

    built = exported(names, folder)
    with progress("bench zoo", len(built) // 2 + len(export_speed.SECONDS_ALLOWED)) as step:
        result = races.measure(chosen_models(names), folder, step)
        speeds = export_speed.measure(step)
    if as_json != "-":
        show(races.table(result))
        show_exports(built)
        show(export_speed.table(speeds))
    write_json(as_json, {**races.to_json(result, built), "export_speed": export_speed.to_json(speeds)})


def _numbers(option: str, text: str, kind: Any) -> list[Any]:
    from seqport.pipeline.errors import PipelineError

    try:
        return [kind(part) for part in text.split(",")]
    except ValueError:
        raise PipelineError(f"{option} is {text!r}, expected numbers with commas between them") from None


def _store(path: Path, *, fresh: bool) -> tuple[Store, dict[str, Any]]:
    from seqport.pipeline.bench import machine
    from seqport.pipeline.bench.store import Store

    if fresh:
        path.unlink(missing_ok=True)
    description = machine.describe()
    return Store(path, machine.setup(description), description["date"]), description


def _write(command: str, cases: Sequence[Case], store: Store, machine: dict[str, Any], path: Path | None) -> None:
    """Print the summary; write the page where one is wanted."""
    from seqport.pipeline.bench.page import page, summary
    from seqport.pipeline.bench.sections import Run

    outcomes = store.get(cases)
    pictures = path.stem if path else "pictures"
    run = Run(
        outcomes, len(cases) - len(outcomes), machine, store.dates(cases), command, pictures, command == "make gpu"
    )
    print(summary(run))
    if path is None:
        return
    text, drawn = page(run)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    folder = path.parent / pictures
    folder.mkdir(exist_ok=True)
    for name, picture in drawn.items():
        (folder / name).write_text(picture, encoding="utf-8")


def _say(line: str) -> None:
    print(line, file=sys.stderr)
