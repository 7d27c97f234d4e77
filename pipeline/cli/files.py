"""Commands on ONNX files, whoever made them: inspect, check, lift, optimize, run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from seqport.pipeline.cli.root import AnyFile, Json, app, write_json
from seqport.pipeline.errors import PipelineError


@app.command()
def inspect(file: AnyFile, as_json: Json = None) -> None:
    """Say what an ONNX file takes and gives, where its lengths go, what breaks the contract, what CUDA cannot run."""
    from dataclasses import asdict

    from seqport.exporters.examine import examine
    from seqport.pipeline.summary import describe_lines

    found = examine(file)
    if as_json != "-":
        print(*describe_lines(file, found), sep="\n")
    write_json(as_json, asdict(found))


@app.command()
def check(file: AnyFile) -> None:
    """Exit with 1 where an ONNX file breaks the contract: loops, fixed axes or states, lengths that do not arrive."""
    from seqport.exporters.examine import examine

    found = examine(file)
    breaks = [*map(str, found.breaks), *(found.description.breaks if found.description else ())]
    print(*(breaks or [f"{file}: keeps the contract, {len(found.recurrent)} native recurrent nodes"]), sep="\n")
    if breaks:
        raise typer.Exit(1)


@app.command()
def lift(
    source: Annotated[Path, typer.Argument(metavar="IN.onnx", help="Any ONNX file.")],
    target: Annotated[Path, typer.Argument(metavar="OUT.onnx", help="The file to write; may be the same.")],
) -> None:
    """Replace recurrent loops of any ONNX file by native nodes, each proven first; say what was left alone and why."""
    from seqport.exporters.lift import lift as lift_file

    print(lift_file(source, target))


@app.command()
def optimize(
    source: Annotated[Path, typer.Argument(metavar="IN.onnx", help="Any ONNX file.")],
    target: Annotated[Path, typer.Argument(metavar="OUT.onnx", help="The file to write; may be the same.")],
    threads: Annotated[int | None, typer.Option(min=1, help="It will run with so many; else one a core.")] = None,
) -> None:
    """Rewrite recurrent layers so that they leave the padding out, measured here, for hosts without seqport."""
    from seqport.pipeline.optimize import optimize as optimize_file

    done = optimize_file(source, target, threads=threads)
    for name in done.layers:
        print(f"{name}: leaves the padding out{', computed by steps' if name in done.by_steps else ''}")
    print(f"wrote {target}")


@app.command()
def run(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An artifact, or any ONNX file.")],
    inputs: Annotated[list[str], typer.Option("--input", metavar="NAME=ARRAY.npy", help="One for each input.")],
    output: Annotated[Path | None, typer.Option(help="Write the outputs to this .npz file.")] = None,
    provider: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:<index>.")] = "auto",
) -> None:
    """Run an artifact on one padded batch of arrays in .npy files."""
    import numpy as np

    from seqport.pipeline.project.spelling import parse_pair, read_array
    from seqport.runtime import Session

    try:
        named = [parse_pair(text, "NAME=ARRAY.npy") for text in inputs]
    except PipelineError as error:
        raise typer.BadParameter(str(error), param_hint="--input") from error
    session = Session(file, provider)
    outputs = session.run({name: read_array(Path(path)) for name, path in named})
    for name, array in outputs.items():
        print(f"{name} {array.dtype} {list(array.shape)} on {session.provider}")
        print(np.array2string(array, precision=6, threshold=60))
    if output:
        np.savez(output, **outputs)  # type: ignore[arg-type] - a name "file" would clash, and no output has it
