"""Commands that export: one model, whoever made it, and all models of a project."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from seqport.pipeline.cli.root import app

if TYPE_CHECKING:
    from seqport.runtime import Description

_MODEL = "Zoo models (all where left out); or one MODULE:ATTRIBUTE, FILE.py:ATTRIBUTE, .keras, SavedModel or .pb."
_INPUT = "One for each input, in the order of the model's arguments: ids:int64[batch,seq]. A name is a dynamic axis."


@app.command()
def export(
    models: Annotated[list[str] | None, typer.Argument(metavar="MODEL", help=_MODEL)] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="The ONNX file of your own model.")] = None,
    inputs: Annotated[list[str] | None, typer.Option("--input", metavar="NAME:DTYPE[AXIS,...]", help=_INPUT)] = None,
    outputs: Annotated[list[str] | None, typer.Option("--output-name", metavar="NAME", help="One an output.")] = None,
    weights: Annotated[str | None, typer.Option(help="Weights to load: a state dict, or Keras's file.")] = None,
    arguments: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="An argument of ATTRIBUTE(...), as in JSON.")
    ] = None,
    example: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=ARRAY.npy", help="Values of an input for the proof to draw from."),
    ] = None,
    opset: Annotated[int | None, typer.Option(help="Of the ONNX file, 17 to 22; 18 by default.")] = None,
    precision: Annotated[
        str | None, typer.Option(help="float16, bfloat16, int8-weights or int8-dynamic; the model's own by default.")
    ] = None,
    strict: Annotated[
        bool | None, typer.Option(help="Refuse what breaks the contract, the default, or record it in the file.")
    ] = None,
    folder: Annotated[Path | None, typer.Option(help="Where zoo models go; build by default.")] = None,
    framework: Annotated[list[str] | None, typer.Option(help="Of zoo models: pytorch, keras; both by default.")] = None,
) -> None:
    """Export your own model, or models of the zoo, to ONNX; proven against the model before the file is written."""
    from seqport.pipeline.cli.zoo import exported, show_exports

    named = models or []
    given = {"--output": output, "--input": inputs, "--output-name": outputs, "--weights": weights, "--set": arguments}
    given |= {"--example": example, "--precision": precision, "--opset": opset, "--strict": strict}
    if not any(map(_is_own, named)):
        if (wrong := next((option for option, value in given.items() if value not in (None, [])), None)) is not None:
            raise typer.BadParameter("goes with a model of your own, MODULE:ATTRIBUTE or a path", param_hint=wrong)
        show_exports(exported(models, folder or Path("build"), framework))
        return
    if len(named) > 1:
        raise typer.BadParameter("takes one model of your own; `seqport build` exports several", param_hint="MODEL")
    if output is None:
        raise typer.BadParameter("is missing: the ONNX file to write", param_hint="--output")
    if (
        wrong := next((o for o, value in (("--folder", folder), ("--framework", framework)) if value), None)
    ) is not None:
        raise typer.BadParameter("goes with models of the zoo", param_hint=wrong)
    options = {"opset": opset, "strict": strict, "precision": precision}
    options = {key: value for key, value in options.items() if value is not None}
    _export_own(named[0], output, inputs or [], outputs or [], weights, arguments or [], example or [], options)


@app.command()
def build(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME", help="Models of the project; all by default.")
    ] = None,
    file: Annotated[Path, typer.Option(help="The project file, or its folder.")] = Path("seqport.toml"),
    force: Annotated[bool, typer.Option("--force", help="Export also what did not change.")] = False,
) -> None:
    """Export the models that a seqport.toml lists, those whose files changed; exits with 1 if one cannot be."""
    from seqport.pipeline.project import build_project, read_project
    from seqport.pipeline.project.build import table
    from seqport.pipeline.report import progress, show

    project = read_project(file)
    _quiet()
    with progress("build", len(names or project.recipes)) as step:
        outcomes = build_project(project, names or (), step, force=force)
    show(table(outcomes, project.folder))
    if any(outcome.state == "failed" for outcome in outcomes):
        raise typer.Exit(1)


def _export_own(
    source: str,
    output: Path,
    inputs: list[str],
    outputs: list[str],
    weights: str | None,
    arguments: list[str],
    example: list[str],
    options: dict[str, Any],
) -> None:
    """Export one model and say what came of it."""
    from time import perf_counter

    from seqport.pipeline.project import Recipe
    from seqport.pipeline.project.spelling import parse_pair

    _quiet()
    recipe = Recipe(
        name=output.stem,
        source=source,
        target=str(output),
        arguments={key: _value(text) for key, text in (parse_pair(pair, "KEY=VALUE") for pair in arguments)},
        weights=weights,
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        example=dict(parse_pair(pair, "NAME=ARRAY.npy") for pair in example),
        options=options,
    )
    started = perf_counter()
    artifact = recipe.run(Path())
    print(f"{artifact.path}: {artifact.path.stat().st_size / 1000:.0f} kB in {perf_counter() - started:.1f} s")
    print(*_lines(artifact.description), sep="\n")


def _lines(description: Description) -> Iterator[str]:
    """What an export gave, in short; `seqport inspect` says more."""
    for kind, tensors in (("input", description.inputs), ("output", description.outputs)):
        for tensor in tensors:
            yield f"  {kind:6} {tensor.name}: {tensor.dtype}[{','.join(map(str, tensor.axes))}]"
    for node in description.recurrent:
        yield f"  {node.op:6} {node.layer}: {node.direction}, lengths from {node.lengths or 'nowhere'}"
    yield from (f"  note   {text}" for text in description.notes)
    yield from (f"  breaks the contract: {text}" for text in description.breaks)


def _is_own(model: str) -> bool:
    """Whether a name is none that the zoo could have: it names a module's attribute, or a path."""
    return any(sign in model for sign in ":./\\") or (Path(model) / "saved_model.pb").exists()


def _value(text: str) -> Any:
    """A value as JSON, or else the text itself."""
    import json

    try:
        return json.loads(text)
    except ValueError:
        return text


def _quiet() -> None:
    """Silence TensorFlow's native log, which says nothing of the export; what is wrong also comes as an exception."""
    import os

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
