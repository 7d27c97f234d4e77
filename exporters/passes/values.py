"""The artifact beside the model at values that a normal distribution never draws.

Needs: an artifact that gives the model's answers at usual values. Guarantees: for every regime that the model takes,
the artifact gives the model's answers there too, or the job has a refusal that names the regime, or a condition on an
input that the runtime holds callers to.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
import onnxruntime as ort

from seqport.exporters.errors import Refusal
from seqport.exporters.passes.draws import Draws, is_per_row
from seqport.exporters.passes.job import Job
from seqport.exporters.passes.judgement import Judge
from seqport.exporters.passes.regimes import FLOATS, NEGATIVE, UNDEFINED, WHOLE, Arrays, varied
from seqport.exporters.serial import light
from seqport.runtime.rewriting.not_a_number import what_hides_nan
from seqport.runtime.rewriting.reading import nodes_within, subgraphs

# Regimes of single values that an operator may treat in a way of their own: there no input may move, not by one bit.
_EXACT = frozenset(name for name in FLOATS if not name.startswith("values"))


@dataclass(frozen=True)
class _Answers:
    """What both gave to one regime; nothing of the artifact where it failed."""

    inputs: Arrays
    expected: Mapping[str, np.ndarray]
    found: Mapping[str, np.ndarray] | None
    reason: str = ""


class Values:
    """Compares regime by regime.

    Args:
        job: the export.
        session: its artifact on ONNX Runtime.
        draws: of its inputs.
        judge: of its answers.
        tolerance: of them.
        usual: inputs that both answer alike.
    """

    def __init__(
        self, job: Job, session: ort.InferenceSession, draws: Draws, judge: Judge, tolerance: float, usual: Arrays
    ) -> None:
        self._job, self._session, self._judge, self._usual = job, session, judge, usual
        self._tolerance = tolerance
        self._inputs = draws.inputs
        self._kept = {*draws.example, *draws.roles, *job.zeros_and_ones, *filter(self._is_fixed, usual)}

    def compare(self) -> tuple[str, ...]:
        """The names of the regimes that the model takes, all compared."""
        taken = []
        for floats, regimes in ((True, FLOATS), (False, WHOLE)):
            for name, vary in regimes.items():
                answers = self._answers(varied(self._usual, self._inputs, self._kept, vary, floats=floats))
                if answers is None:
                    continue
                if said := self._differs(answers, exact=name in _EXACT or not floats):
                    self._job.refusals.append(_refusal(f"{said} at {name}", self._varied(floats)))
                    return tuple(taken)
                taken.append(name)
        self._compare_negative()
        self._compare_undefined()
        return tuple(taken)

    def _is_fixed(self, name: str) -> bool:
        """Whether an input's values are no data: lengths, or a mask of zeros and ones."""
        item = next(item for item in self._inputs if item.name == name)
        values = self._usual[name]
        if values.dtype.kind != "f":
            return is_per_row(item)
        return bool(np.isin(values, (0, 1)).all()) or (is_per_row(item) and bool((values >= 0).all()))

    def _varied(self, floats: bool) -> list[str]:
        kind = "f" if floats else "i"
        return [n for n, array in self._usual.items() if n not in self._kept and array.dtype.kind == kind]

    def _answers(self, inputs: Arrays | None) -> _Answers | None:
        """None where the model itself does not take the values."""
        if inputs is None:
            return None
        try:
            with np.errstate(all="ignore"):
                expected = self._job.capture.reference(inputs)
        except Exception:  # whatever it is, the model's own word is that such values are none of its
            return None
        try:
            found = dict(zip(expected, self._session.run(list(expected), inputs), strict=True))
        except Exception as error:
            return _Answers(inputs, expected, None, str(error).strip().splitlines()[0][:200])
        return _Answers(inputs, expected, {name: np.asarray(array) for name, array in found.items()})

    def _differs(self, answers: _Answers, *, exact: bool) -> str:
        """What differs, for a message; empty where nothing does."""
        if answers.found is None:
            return f"fails where the model answers ({answers.reason}),"
        for name, expected in answers.expected.items():
            gap = self._judge.difference(
                name, answers.inputs, answers.found[name], np.asarray(expected), self._tolerance, exact=exact
            )
            if gap:
                return f"output {name!r} differs from the model's own by {gap:.3g} (relative to its own scale)"
        return ""

    def _compare_negative(self) -> None:
        """Negative numbers, which ONNX counts from the end where they are indices: taken only where both agree.

        Where the model refuses them, so does the runtime, wherever in the model they are looked up.
        """
        for name in self._varied(floats=False):
            others = {other for other in self._usual if other != name}
            for vary in NEGATIVE.values():
                inputs = varied(self._usual, self._inputs, {*self._kept, *others}, vary, floats=False)
                answers = self._answers(inputs)
                if answers is None or self._differs(answers, exact=True):
                    self._job.not_negative.add(name)

    def _compare_undefined(self) -> None:
        """NaN and infinities: where the model has an answer to them (missing values, say), it is the artifact's too.

        Each number of the model's is compared, whatever stands beside it. Where the model answers NaN, the artifact may
        not, and other numbers may follow from that: ONNX Runtime's GRU and LSTM make numbers of NaN, and a maximum
        passes it over, which a session knows and sees to.
        """
        for name, vary in UNDEFINED.items():
            answers = self._answers(varied(self._usual, self._inputs, self._kept, vary, floats=True))
            for each in _where_defined(answers) if answers is not None else ():
                (output,) = each.expected
                said = self._differs(each, exact=True)
                if said and not _what_hides_nan(self._job.model, output):
                    self._job.refusals.append(_refusal(f"{said} at {name}", self._varied(floats=True)))


def _where_defined(answers: _Answers) -> Iterator[_Answers]:
    """Each output of floats by itself, with the model's own NaN taken for the artifact's."""
    for name, value in answers.expected.items():
        expected = np.asarray(value)
        found = None if answers.found is None else answers.found[name]
        if expected.dtype.kind != "f":
            continue
        if found is not None and found.shape == expected.shape and found.dtype.kind == "f":
            found = np.where(np.isnan(expected), expected, found)
        yield _Answers(answers.inputs, {name: expected}, None if found is None else {name: found}, answers.reason)


def _what_hides_nan(model: ir.Model, output: str) -> str:
    """The node behind an output that makes a number of NaN, as a session names it."""
    graph = light(model)[0].graph
    wanted, behind = {output}, []
    for node in reversed(graph.node):
        if wanted.intersection(node.output):
            behind.append(node)
            wanted.update(node.input)
            wanted.update(name for inner in subgraphs(node) for each in nodes_within(inner) for name in each.input)
    del graph.node[:]
    graph.node.extend(reversed(behind))
    return what_hides_nan(graph)


def _refusal(said: str, inputs: list[str]) -> Refusal:
    example = ", ".join(f"{name!r}: array" for name in inputs)
    return Refusal(
        "the exported graph",
        said,
        "ONNX Runtime computes an operator of it otherwise there: write the operator in another form; or, where such "
        f"values never come, give example={{{example}}} with values that do, and the proof draws from those",
    )
