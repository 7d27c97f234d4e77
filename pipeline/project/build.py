"""Exports the models of a project: those that changed, each on its own, so that one failure keeps no other back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from seqport.errors import SeqportError
from seqport.exporters.write import data_path, has_data
from seqport.pipeline.errors import PipelineError
from seqport.pipeline.project.config import Project
from seqport.pipeline.project.ledger import Ledger
from seqport.pipeline.project.recipe import Recipe
from seqport.pipeline.report import Step, Table


@dataclass(frozen=True)
class Outcome:
    """What became of one model.

    Attributes:
        recipe: the model.
        state: "exported", "unchanged" or "failed".
        seconds: that it took.
        nodes: the artifact's native recurrent nodes, where it was exported.
        reason: why it failed.
    """

    recipe: Recipe
    state: str
    seconds: float = 0.0
    nodes: int | None = None
    reason: str = ""


def build_project(
    project: Project, names: Sequence[str] = (), step: Step = lambda _: None, *, force: bool = False
) -> list[Outcome]:
    """Export what changed since the last build.

    Args:
        project: the models.
        names: of the models to build; all where there are none.
        step: called after each model.
        force: export also what did not change.

    Raises:
        PipelineError: the project has no model of such a name.
    """
    known = {recipe.name: recipe for recipe in project.recipes}
    for name in names:
        if name not in known:
            raise PipelineError(f"the project has no model {name!r}: it has {', '.join(known)}")
    project.output.mkdir(parents=True, exist_ok=True)
    ledger, found = Ledger(project.folder, project.output), []
    for recipe in [known[name] for name in dict.fromkeys(names)] or project.recipes:
        started = perf_counter()
        outcome = _build(project.folder, recipe, ledger, started, force=force)
        found.append(outcome)
        step(f"{recipe.name} {outcome.state}")
    return found


def _build(folder: Path, recipe: Recipe, ledger: Ledger, started: float, *, force: bool) -> Outcome:
    made_from: dict[str, str] = {}
    try:
        if not force and ledger.is_current(recipe):
            return Outcome(recipe, "unchanged", perf_counter() - started)
        # By content before the export: what is saved while it runs is another model's.
        artifact = recipe.run(folder, lambda files: made_from.update(ledger.hashes(files)))
    except SeqportError as error:
        return Outcome(recipe, "failed", perf_counter() - started, reason=str(error))
    except Exception as error:  # a fault of seqport's or of a framework's must not keep the other models back
        return Outcome(recipe, "failed", perf_counter() - started, reason=f"{type(error).__name__}: {error}")
    written = [artifact.path, *([data_path(artifact.path)] if has_data(artifact.path) else [])]
    ledger.record(recipe, made_from, ledger.hashes(written))
    return Outcome(recipe, "exported", perf_counter() - started, len(artifact.description.recurrent))


def table(outcomes: Sequence[Outcome], folder: Path) -> Table:
    """One line a model, and why the failed ones failed."""
    found = Table("build", ["model", "", "seconds", "recurrent\nnodes", "kB", "artifact"])
    for one in outcomes:
        path = folder / one.recipe.target
        size = f"{path.stat().st_size / 1000:.0f}" if path.exists() else "–"
        nodes = "–" if one.nodes is None else str(one.nodes)
        found.add(one.recipe.name, one.state, f"{one.seconds:.2f}", nodes, size, str(path), red=one.state == "failed")
    found.notes = [f"{one.recipe.name} failed: {one.reason}" for one in outcomes if one.reason]
    return found
