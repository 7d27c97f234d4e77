"""One row of the proof: a part of a model in one runner, against the oracle, PyTorch and itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from seqport.models import Part, Weights, zoo
from seqport.models.zoo import Task
from seqport.pipeline.answers import Answers, answer
from seqport.pipeline.batches import Batch, batches, for_padding
from seqport.pipeline.compare import Comparison, Tolerances, compare, failed, merged
from seqport.pipeline.layout import Arrays, Layout, describe
from seqport.pipeline.padding import TOLERANCES, check_padding
from seqport.pipeline.runners import MODELS, ArtifactRunner, Runner, oracle_runner
from seqport.runtime import Description

# What a runner is compared with, and what each view may differ by. A float32 step at the largest state of the
# zoo, 28 in a ReLU network, is 2e-6: beside float64 a final state may be out by some steps, beside float32 by fewer.
REFERENCES = {"oracle": Tolerances(final=2e-5), "pytorch": Tolerances()}


@dataclass(frozen=True)
class Row:
    """What one runner gave for one part.

    Attributes:
        against: the comparison with each reference but itself.
        padding: the comparison of each padding check.
        score: of the whole model on its test split, in the row of its last part.
        faults: why the row is red, a sentence each.
    """

    model: str
    part: str
    runner: str
    provider: str
    against: Mapping[str, Comparison]
    padding: Mapping[str, Comparison]
    score: float | None
    faults: tuple[str, ...]

    @property
    def label(self) -> str:
        """The model, and the part where it has several."""
        return self.model if self.part == "model" else f"{self.model}.{self.part}"

    @property
    def ok(self) -> bool:
        """Whether everything that was compared is within its tolerance."""
        return not self.faults


@dataclass(frozen=True)
class Case:
    """One part: its batches, and what each reference gives for them."""

    part: Part
    layout: Layout
    batches: list[Batch]
    expected: Mapping[str, list[Arrays]]


@dataclass(frozen=True)
class Subject:
    """A model of the zoo, ready to be judged in any runner."""

    task: Task
    weights: Weights
    cases: tuple[Case, ...]
    answers: Answers  # the oracle's

    @classmethod
    def load(cls, name: str) -> Subject:
        """Load a model, its data and its references.

        Raises:
            ZooError: there is no such model, or its data package is not installed.
        """
        task, weights = zoo.get(name), zoo.load_weights(name)
        cases = tuple(_case(part, several, weights) for part, several in batches(task, weights))
        oracles = {part.name: oracle_runner(part, weights) for part in task.spec.parts()}
        return cls(task, weights, cases, answer(task, task.load().test, oracles))

    def judge(self, name: str, runners: Mapping[str, Runner], provider: str = "cpu") -> list[Row]:
        """Judge one runner on every part.

        Args:
            name: of the runner.
            runners: the runner of each part, by the part's name.
            provider: where it runs.
        """
        rows = [self._row(case, name, runners[case.part.name], provider) for case in self.cases]
        score, faults = self._judge_answers(runners)
        rows[-1] = replace(rows[-1], score=score, faults=(*rows[-1].faults, *faults))
        return rows

    def _row(self, case: Case, name: str, runner: Runner, provider: str) -> Row:
        outputs = [_attempt(runner, batch) for batch in case.batches]
        against = {
            reference: _against(case, outputs, reference, tolerances)
            for reference, tolerances in REFERENCES.items()
            if reference != name
        }
        padding = _padding(case, runner)
        faults = [f"against {other}: {fault}" for other, found in against.items() for fault in found.faults]
        faults += [f"padding, {check}: {fault}" for check, found in padding.items() for fault in found.faults]
        if isinstance(runner, ArtifactRunner):
            faults += _signature_faults(runner.session.description, describe(case.part))
        return Row(self.task.name, case.part.name, name, provider, against, padding, None, tuple(faults))

    def _judge_answers(self, runners: Mapping[str, Runner]) -> tuple[float | None, list[str]]:
        try:
            found = answer(self.task, self.task.load().test, runners)
        except Exception as error:
            return None, [f"answers: {_said(error)}"]
        faults = []
        if not found.same_predictions(self.answers):
            differ = (found.predictions != self.answers.predictions).reshape(len(found.predictions), -1).any(axis=1)
            faults.append(f"answers: {differ.sum()} of {len(differ)} rows differ from the oracle's")
        if found.tokens != self.answers.tokens:
            pairs = zip(found.tokens or (), self.answers.tokens or (), strict=True)
            faults.append(f"tokens: {sum(a != b for a, b in pairs)} generated rows differ from the oracle's")
        return found.score, faults


def _case(part: Part, several: list[Batch], weights: Weights) -> Case:
    expected = {}
    for reference in REFERENCES:
        runner = MODELS[reference](part, weights)
        expected[reference] = [runner(batch.inputs) for batch in several]
    return Case(part, Layout.of(part), several, expected)


def _attempt(runner: Runner, batch: Batch) -> Arrays | str:
    """The outputs, or whatever a runtime raised: the row is red then, and the proof goes on."""
    try:
        return runner(batch.inputs)
    except Exception as error:
        return f"{batch.name}: {_said(error)}"


def _against(case: Case, outputs: list[Arrays | str], reference: str, tolerances: Tolerances) -> Comparison:
    comparisons = []
    for batch, found, expected in zip(case.batches, outputs, case.expected[reference], strict=True):
        if isinstance(found, str):
            comparisons.append(failed(found, tolerances))
        else:
            lengths = batch.inputs[case.layout.lengths]
            comparisons.append(compare(found, expected, case.layout, lengths, tolerances, where=batch.name))
    return merged(comparisons)


def _padding(case: Case, runner: Runner) -> dict[str, Comparison]:
    batch = for_padding(case.batches)
    try:
        return check_padding(runner, batch.inputs, case.layout)
    except Exception as error:  # as in _attempt
        return {check: failed(f"{batch.name}: {_said(error)}", allowed) for check, allowed in TOLERANCES.items()}


def _signature_faults(found: Description, expected: Description) -> list[str]:
    """What an artifact says of itself that is not so."""
    return [
        f"signature: the artifact says {field} = {getattr(found, field)}, expected {getattr(expected, field)}"
        for field in ("inputs", "outputs", "batch_axis", "steps_axis", "sequences", "states")
        if getattr(found, field) != getattr(expected, field)
    ]


def _said(error: Exception) -> str:
    first_line = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {first_line}"
