"""Commands that export: one model, whoever made it, and all models of a project."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from seqport.pipeline.cli.root import app

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
    opset: Annotated[int, typer.Option(help="Of the ONNX file, 17 to 22.")] = 18,
    strict: Annotated[bool, typer.Option(help="Refuse what breaks the contract, or record it in the file.")] = True,
    folder: Annotated[Path, typer.Option(help="Where zoo models go.")] = Path("build"),
    framework: Annotated[list[str] | None, typer.Option(help="Of zoo models: pytorch, keras; both by default.")] = None,
) -> None:
    """Export your own model, or models of the zoo, to ONNX; proven against the model before the file is written."""
    from seqport.pipeline.cli.zoo import exported, show_exports
    from seqport.pipeline.project import Recipe
    from seqport.pipeline.project.spelling import parse_pair

    own = [model for model in models or () if _is_own(model)]
    if not own:
        given = {"--output": output, "--input": inputs, "--weights": weights, "--set": arguments, "--example": example}
        if (wrong := next((option for option, value in given.items() if value), None)) is not None:
            raise typer.BadParameter("goes with a model of your own, MODULE:ATTRIBUTE or a path", param_hint=wrong)
        show_exports(exported(models, folder, framework))
        return
    if len(models or ()) > 1:
        raise typer.BadParameter("takes one model of your own; `seqport build` exports several", param_hint="MODEL")
    if output is None:
        raise typer.BadParameter("is missing: the ONNX file to write", param_hint="--output")
    here = Path()
    recipe = Recipe(
        name=output.stem,
        source=own[0],
        target=str(output),
        arguments={key: _value(text) for key, text in (parse_pair(a, "KEY=VALUE") for a in arguments or ())},
        weights=weights,
        inputs=tuple(inputs or ()),
        outputs=tuple(outputs or ()),
        example=dict(parse_pair(text, "NAME=ARRAY.npy") for text in example or ()),
        options={"opset": opset, "strict": strict},
    )
    _say(recipe, here)


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


def _say(recipe: Any, folder: Path) -> None:
    """Export one model and say what came of it."""
    from time import perf_counter

    _quiet()
    started = perf_counter()
    artifact, _ = recipe.run(folder)
    description = artifact.description
    print(f"{artifact.path}: {artifact.path.stat().st_size / 1000:.0f} kB in {perf_counter() - started:.1f} s")
    for kind, tensors in (("input", description.inputs), ("output", description.outputs)):
        for tensor in tensors:
            print(f"  {kind:6} {tensor.name}: {tensor.dtype}[{','.join(map(str, tensor.axes))}]")
    for node in description.recurrent:
        print(f"  {node.op:6} {node.layer}: {node.direction}, lengths from {node.lengths or 'nowhere'}")
    print(
        *(f"  {what}: {text}" for what in ("notes", "breaks") for text in getattr(description, what)), sep="\n", end=""
    )


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
