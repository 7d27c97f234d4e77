"""The command `seqport`: every command here is a few lines over the module that does the work.

Nothing heavy is imported before a command runs, so that `seqport --help` answers at once.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from seqport.errors import SeqportError
from seqport.pipeline.errors import PipelineError

try:
    import typer
except ModuleNotFoundError as error:  # an application that embeds the runtime installs no command line
    raise SystemExit("seqport: the command needs typer and rich: pip install 'seqport[export]'") from error

if TYPE_CHECKING:
    from seqport.pipeline.build import Built

app = typer.Typer(
    help="Recurrent and variable-length sequence models, from PyTorch and TensorFlow to ONNX Runtime.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Models = Annotated[list[str] | None, typer.Argument(metavar="NAME", help="Models of the zoo; all where left out.")]
Folder = Annotated[Path, typer.Option(help="Where the artifacts are written.")]
Json = Annotated[str | None, typer.Option("--json", metavar="FILE", help='Write the result as JSON; "-" is stdout.')]


def main() -> None:
    """Run the command; an error that seqport explains becomes its message on stderr and the exit code 1."""
    try:
        app()
    except SeqportError as error:
        message = str(error)
    except ModuleNotFoundError as error:
        message = f"{error.name} is not installed: pip install 'seqport[torch,tensorflow,zoo]'"
    except OSError as error:  # a folder that cannot be written, a full disk
        message = f"{error.filename}: {error.strerror}" if error.filename else str(error)
    else:
        return
    print(f"seqport: {message}", file=sys.stderr)
    raise SystemExit(1)


@app.command()
def train(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A model of the zoo.")],
    output: Annotated[Path | None, typer.Option(help="The weights to write; by default the zoo's own.")] = None,
) -> None:
    """Train a model of the zoo on its real data, and write its weights with the measured score."""
    from seqport.models import zoo
    from seqport.models.zoo import train as trainer
    from seqport.pipeline.report import progress

    task = zoo.get(name)
    path = output or zoo.weights_path(name)
    with progress(f"train {name}", task.recipe.epochs) as step:
        weights = trainer.train(name, progress=lambda epoch, _, loss: step(f"epoch {epoch}, loss {loss:.3g}"))
    weights.save(path)
    print(f"{path}: {task.score_name} {weights.metadata['score']}")


@app.command()
def export(
    names: Models = None,
    folder: Folder = Path("build"),
    framework: Annotated[list[str] | None, typer.Option(help="pytorch or keras; both where left out.")] = None,
) -> None:
    """Export models of the zoo to ONNX, from PyTorch and from Keras, and print how long each took."""
    _show_exports(_exported(names, folder, framework))


@app.command()
def parity(
    names: Models = None,
    folder: Folder = Path("build"),
    as_json: Json = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="Judge the artifacts as they are, without a new export.")
    ] = False,
) -> None:
    """Export models of the zoo and prove that every runtime gives the same answers on padded input.

    Exits with 1 if any row is red.
    """
    from seqport.pipeline import parity as proof
    from seqport.pipeline.report import progress, show

    chosen = _chosen(names)
    if keep:
        _import_tensorflow()
    else:
        _exported(names, folder)
    with progress("parity", len(proof.plan(chosen))) as step:
        result = proof.prove(chosen, folder, step=step)
    if as_json != "-":
        show(proof.table(result))
    _write_json(as_json, proof.to_json(result))
    if not result.ok:
        raise typer.Exit(1)


@app.command()
def bench(names: Models = None, folder: Folder = Path("build"), as_json: Json = None) -> None:
    """Time the artifacts beside ONNX Runtime's own call, PyTorch and Keras, on real batches."""
    from seqport.pipeline import bench as races
    from seqport.pipeline.report import progress, show

    built = _exported(names, folder)
    with progress("bench", len(built) // 2) as step:
        result = races.measure(_chosen(names), folder, step)
    if as_json != "-":
        show(races.table(result))
        _show_exports(built)
    _write_json(as_json, races.to_json(result, built))


@app.command()
def inspect(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Any ONNX file.")],
    as_json: Json = None,
) -> None:
    """Say what an ONNX file takes and gives, where its lengths go, what breaks the contract, what CUDA cannot run."""
    from dataclasses import asdict

    from seqport.exporters.examine import examine
    from seqport.pipeline.summary import describe_lines

    found = examine(file)
    if as_json != "-":
        print(*describe_lines(file, found), sep="\n")
    _write_json(as_json, asdict(found))


@app.command()
def check(file: Annotated[Path, typer.Argument(metavar="FILE", help="Any ONNX file.")]) -> None:
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
def run(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An artifact, or any ONNX file.")],
    inputs: Annotated[list[str], typer.Option("--input", metavar="NAME=ARRAY.npy", help="One for each input.")],
    output: Annotated[Path | None, typer.Option(help="Write the outputs to this .npz file.")] = None,
    provider: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:<index>.")] = "auto",
) -> None:
    """Run an artifact on one padded batch of arrays in .npy files."""
    import numpy as np

    from seqport.runtime import Session

    session = Session(file, provider)
    outputs = session.run({name: _array(path) for name, path in map(_named, inputs)})
    for name, array in outputs.items():
        print(f"{name} {array.dtype} {list(array.shape)} on {session.provider}")
        print(np.array2string(array, precision=6, threshold=60))
    if output:
        np.savez(output, **outputs)  # type: ignore[arg-type] - a name "file" would clash, and no output has it


def _chosen(names: list[str] | None) -> list[str]:
    from seqport.models import zoo

    return [zoo.get(name).name for name in dict.fromkeys(names or zoo.names())]


def _exported(names: list[str] | None, folder: Path, frameworks: list[str] | None = None) -> list[Built]:
    from seqport.models import zoo
    from seqport.pipeline.build import FRAMEWORKS, build_zoo
    from seqport.pipeline.report import progress

    chosen, frameworks = _chosen(names), frameworks or list(FRAMEWORKS)
    if "keras" in frameworks:
        _import_tensorflow()
    total = len(frameworks) * sum(len(zoo.get(name).spec.parts()) for name in chosen)
    with progress("export", total) as step:
        return build_zoo(chosen, folder, frameworks, step)


def _show_exports(built: list[Built]) -> None:
    from seqport.pipeline.build import SECONDS_ALLOWED
    from seqport.pipeline.report import Table, show

    table = Table("exports", ["artifact", "seconds", "kB"])
    for one in built:
        slow = one.seconds > SECONDS_ALLOWED
        table.add(str(one.path), f"{one.seconds:.2f}", f"{one.bytes / 1000:.0f}", red=slow)
        if slow:
            table.notes.append(f"{one.path} took more than {SECONDS_ALLOWED:.0f} s")
    show(table)


def _import_tensorflow() -> None:
    from seqport.pipeline.quiet import import_tensorflow

    import_tensorflow()


def _write_json(where: str | None, value: dict[str, Any]) -> None:
    if where is None:
        return
    text = json.dumps(value, indent=2)
    if where == "-":
        print(text)
    else:
        Path(where).write_text(text + "\n", encoding="utf-8")


def _named(text: str) -> tuple[str, Path]:
    name, separator, path = text.partition("=")
    if not separator:
        raise typer.BadParameter(f"{text!r}: expected NAME=ARRAY.npy", param_hint="--input")
    return name, Path(path)


def _array(path: Path) -> Any:
    import numpy as np

    try:
        return np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise PipelineError(f"{path} cannot be read as a .npy file: {error}") from error
