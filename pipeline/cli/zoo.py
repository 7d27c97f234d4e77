"""Commands on the zoo: train, parity; and what `export` and `bench zoo` do for its models."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from seqport.pipeline.cli.root import Json, app, write_json

if TYPE_CHECKING:
    from seqport.pipeline.build import Built

Models = Annotated[list[str] | None, typer.Argument(metavar="NAME", help="Models of the zoo; all where left out.")]
Folder = Annotated[Path, typer.Option(help="Where the artifacts are written.")]


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

    chosen = chosen_models(names)
    if keep:
        _import_tensorflow()
    else:
        exported(names, folder)
    with progress("parity", len(proof.plan(chosen))) as step:
        result = proof.prove(chosen, folder, step=step)
    if as_json != "-":
        show(proof.table(result))
    write_json(as_json, proof.to_json(result))
    if not result.ok:
        raise typer.Exit(1)


def chosen_models(names: list[str] | None) -> list[str]:
    """Names of the zoo's models, those that were asked for or all."""
    from seqport.models import zoo

    return [zoo.get(name).name for name in dict.fromkeys(names or zoo.names())]


def exported(names: list[str] | None, folder: Path, frameworks: list[str] | None = None) -> list[Built]:
    """Export models of the zoo, with progress."""
    from seqport.models import zoo
    from seqport.pipeline.build import FRAMEWORKS, build_zoo
    from seqport.pipeline.report import progress

    chosen, frameworks = chosen_models(names), frameworks or list(FRAMEWORKS)
    if "keras" in frameworks:
        _import_tensorflow()
    total = len(frameworks) * sum(len(zoo.get(name).spec.parts()) for name in chosen)
    with progress("export", total) as step:
        return build_zoo(chosen, folder, frameworks, step)


def show_exports(built: list[Built]) -> None:
    """Print what each export took."""
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
