"""The proof: every part of every model in every runner, judged on the same real padded batches."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seqport.models import zoo
from seqport.pipeline import padding
from seqport.pipeline.compare import VIEWS, Comparison, View
from seqport.pipeline.judge import REFERENCES, Row, Subject
from seqport.pipeline.report import Step, Table, number
from seqport.pipeline.runners import ARTIFACTS, NAMES, open_runners
from seqport.runtime import ProviderError

PROVIDERS = ("cpu", "cuda")


@dataclass(frozen=True)
class Parity:
    """The rows of the proof, and what could not be run with the reason."""

    rows: tuple[Row, ...]
    skipped: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether there are rows and every one is green."""
        return bool(self.rows) and all(row.ok for row in self.rows)


def plan(names: Iterable[str], providers: Sequence[str] = PROVIDERS) -> list[tuple[str, str, str]]:
    """Every model, runner and provider to judge; only artifacts run on more than the CPU."""
    return [
        (model, runner, provider)
        for model in names
        for runner in NAMES
        for provider in (providers if runner in ARTIFACTS else ("cpu",))
    ]


def prove(
    names: Sequence[str], folder: Path, providers: Sequence[str] = PROVIDERS, step: Step = lambda _: None
) -> Parity:
    """Judge models in all runners.

    Args:
        names: of models in the zoo.
        folder: where their artifacts are.
        providers: where the artifacts run. One that cannot run an artifact is passed over, with the reason;
            the CPU runs all.
        step: called after each row of the plan.

    Raises:
        ZooError: there is no such model.
        ArtifactError: an artifact is missing or damaged.
    """
    rows: list[Row] = []
    parts: list[tuple[str, str]] = []
    refusals: dict[str, list[str]] = {}  # reason: what it kept from running
    for model in names:
        subject = Subject.load(model)
        parts += [(model, case.part.name) for case in subject.cases]
        for _, runner, provider in plan([model], providers):
            try:
                runners = open_runners(runner, model, subject.weights, folder, provider=provider)
            except ProviderError as error:
                refusals.setdefault(str(error), []).append(f"{model} {runner}")
                step(f"{model} {runner} cannot run on {provider}")
            else:
                rows += subject.judge(runner, runners, provider)
                step(f"{model} {runner} on {provider}")
    rows.sort(key=lambda row: parts.index((row.model, row.part)))
    everything = len(names) * len(ARTIFACTS)
    skipped = [
        f"not run: {'every artifact' if len(what) == everything else ', '.join(what)}: {reason}"
        for reason, what in refusals.items()
    ]
    return Parity(tuple(rows), tuple(skipped))


def table(parity: Parity) -> Table:
    """One line a row, the largest difference of each view and check."""
    views = [f"{view}\n{reference}" for view in ("valid", "final") for reference in REFERENCES]
    headers = ["model", "runner", "on", *views[:2], "padded\nsteps", *views[2:]]
    headers += [f"padding\n{check}" for check in padding.TOLERANCES] + ["task\nscore", ""]
    found = Table("parity: largest differences on real padded batches", headers)
    for row in parity.rows:
        valid, final = ([_number(row.against.get(r), view) for r in REFERENCES] for view in ("valid", "final"))
        padded = number(max((w for c in row.against.values() if (w := _worst(c, "padded")) is not None), default=None))
        checks = [number(_largest(row.padding.get(check))) for check in padding.TOLERANCES]
        score = "–" if row.score is None else f"{row.score:.4f}"
        mark = "ok" if row.ok else "RED"
        found.add(row.label, row.runner, row.provider, *valid, padded, *final, *checks, score, mark, red=not row.ok)
    found.notes = [*_legend(parity), *parity.skipped]
    found.notes += [f"RED {r.label} {r.runner} on {r.provider}: {f}" for r in parity.rows for f in r.faults]
    return found


def to_json(parity: Parity) -> dict[str, Any]:
    """The proof as plain data; an infinite difference (NaN, another shape, an error) is the text "inf"."""
    return {
        "ok": parity.ok,
        "tolerances": {
            "against": {name: allowed._asdict() for name, allowed in REFERENCES.items()},
            "padding": {name: allowed._asdict() for name, allowed in padding.TOLERANCES.items()},
        },
        "rows": [
            {
                "model": row.model,
                "part": row.part,
                "runner": row.runner,
                "provider": row.provider,
                "ok": row.ok,
                "against": {name: _plain(comparison) for name, comparison in row.against.items()},
                "padding": {name: _plain(comparison) for name, comparison in row.padding.items()},
                "score": row.score,
                "score_name": zoo.get(row.model).score_name,
                "faults": list(row.faults),
            }
            for row in parity.rows
        ],
        "skipped": list(parity.skipped),
    }


def _legend(parity: Parity) -> list[str]:
    lines = [f"allowed against {name}: {_allowed(tolerances)}" for name, tolerances in REFERENCES.items()]
    for tolerances in dict.fromkeys(padding.TOLERANCES.values()):
        checks = [name for name, allowed in padding.TOLERANCES.items() if allowed == tolerances]
        lines.append(f"allowed with padding {', '.join(checks)}: {_allowed(tolerances)}")
    scores = dict.fromkeys(f"{row.model} {zoo.get(row.model).score_name}" for row in parity.rows)
    lines.append(f"task scores, of answers and generated tokens that all equal the oracle's: {', '.join(scores)}")
    return [*lines, "– does not apply"]


def _allowed(tolerances: Any) -> str:
    return ", ".join(f"{view} {number(allowed)}" for view, allowed in tolerances._asdict().items())


def _plain(comparison: Comparison) -> dict[str, float | str]:
    return {view: w.difference if math.isfinite(w.difference) else "inf" for view, w in comparison.views.items()}


def _worst(comparison: Comparison | None, view: View) -> float | None:
    return None if comparison is None or view not in comparison.views else comparison.views[view].difference


def _largest(comparison: Comparison | None) -> float | None:
    found = [worst for view in VIEWS if (worst := _worst(comparison, view)) is not None]
    return max(found, default=None)


def _number(comparison: Comparison | None, view: View) -> str:
    return number(_worst(comparison, view))
