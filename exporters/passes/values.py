"""The artifact beside the model at values that a normal distribution never draws.

Needs: an artifact that gives the model's answers at usual values. Guarantees: for every regime that the model takes,
the artifact gives the model's answers there too, or the job has a refusal that names the regime, or a condition on an
input that the runtime holds callers to.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort

from seqport.exporters.errors import Refusal
from seqport.exporters.passes.draws import Draws, is_per_row
from seqport.exporters.passes.job import Job
from seqport.exporters.passes.judgement import Judge
from seqport.exporters.passes.regimes import FLOATS, NEGATIVE, UNDEFINED, WHOLE, Arrays, Vary, varied
from seqport.exporters.passes.roles import is_native, sizes_sources
from seqport.exporters.passes.tables import id_ranges
from seqport.exporters.serial import light
from seqport.runtime.rewriting.not_a_number import what_hides_nan
from seqport.runtime.rewriting.reading import nodes_within, subgraphs

# Ids and classes are looked for up to here: int8 ends there too.
_LARGEST = 127
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
        probed: inputs of several sizes that both answer alike; the first are those that are varied.
        kind: of their values: not "usual" where the model refused normal draws.
    """

    def __init__(
        self,
        job: Job,
        session: ort.InferenceSession,
        draws: Draws,
        judge: Judge,
        tolerance: float,
        probed: Sequence[Arrays],
        kind: str,
    ) -> None:
        self._job, self._session, self._judge = job, session, judge
        self._probed, self._usual = probed, probed[0]
        self._tolerance, self._kind = tolerance, kind
        self._inputs = draws.inputs
        self._sizes = sizes_sources(job.model)
        self._kept = {*draws.example, *draws.roles, *job.zeros_and_ones, *filter(self._is_fixed, self._usual)}

    def compare(self) -> tuple[str, ...]:
        """The names of the regimes that the model takes, all compared."""
        taken = []
        for floats, regimes in ((True, FLOATS), (False, WHOLE)):
            for name, vary in regimes.items():
                answers = self._answers(varied(self._usual, self._inputs, self._kept, vary, floats=floats))
                if answers is None:
                    continue
                exact = name in _EXACT or not floats
                said = self._differs(answers, exact=exact)
                if said and floats and not self._differs_from_numbers(answers, exact=exact):
                    self._job.capture.notes.append(
                        f"makes NaN of {name}, which ONNX Runtime's own nodes turn into numbers"
                    )
                    said = ""
                if said:
                    self._job.refusals.append(_refusal(f"{said} at {name}", self._varied(floats)))
                    return tuple(taken)
                taken.append(name)
        self._compare_negative()
        self._compare_largest()
        self._compare_undefined()
        return tuple(taken)

    def _is_fixed(self, name: str) -> bool:
        """Whether an input's values are no data: lengths, or a mask of zeros and ones."""
        item = next(item for item in self._inputs if item.name == name)
        values = self._usual[name]
        is_mask = values.dtype.kind == "f" and bool(np.isin(values, (0, 1)).all())
        return is_mask or (is_per_row(item) and name in self._sizes)

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
        floats = self._varied(floats=True) if self._kind != "usual" else []
        for name in [*self._varied(floats=False), *floats]:
            answers = None if name in floats else self._answers(self._alone(name, NEGATIVE))
            answers = answers or self._answers(
                self._filled(name, -1)
            )  # perhaps 9 was too large, and -1 is not too small
            if answers is None or self._differs(answers, exact=True):
                self._job.not_negative.add(name)

    def _compare_largest(self) -> None:
        """Whole numbers that the model refuses from one on, and the artifact answers: classes of a one-hot, say."""
        tables = id_ranges(self._job.model.graph)
        for name in self._varied(floats=False):
            if name in tables or self._takes(name, _LARGEST) or not self._runs(name, _LARGEST):
                continue
            taken, refused = 0, _LARGEST
            while refused - taken > 1:
                middle = (taken + refused) // 2
                taken, refused = (middle, refused) if self._takes(name, middle) else (taken, middle)
            # What holds at sizes of one probe alone is a place along an axis, which every request has its own of.
            if all(self._takes(name, taken, usual) and not self._takes(name, refused, usual) for usual in self._probed):
                self._job.largest[name] = taken

    def _takes(self, name: str, value: int, usual: Arrays | None = None) -> bool:
        """Whether the model answers to one number in the place of all of one input's."""
        return self._answers(self._filled(name, value, usual)) is not None

    def _alone(self, name: str, regimes: Mapping[str, Vary]) -> Arrays | None:
        """The usual inputs with one of them in a regime."""
        (vary,) = regimes.values()
        others = {other for other in self._usual if other != name}
        return varied(self._usual, self._inputs, {*self._kept, *others}, vary, floats=False)

    def _filled(self, name: str, value: int, usual: Arrays | None = None) -> Arrays:
        """The usual inputs with one number in the place of all of one input's."""
        usual = self._usual if usual is None else usual
        return {**usual, name: np.full_like(usual[name], value)}

    def _runs(self, name: str, value: int) -> bool:
        """Whether the artifact answers to that."""
        try:
            self._session.run(None, self._filled(name, value))
        except Exception:  # the answer of ONNX Runtime is that it does not
            return False
        return True

    def _compare_undefined(self) -> None:
        """NaN and infinities: where the model has an answer to them (missing values, say), it is the artifact's too.

        Each number of the model's is compared, whatever stands beside it. Where the model answers NaN, the artifact may
        not, and other numbers may follow from that: ONNX Runtime's GRU and LSTM make numbers of NaN, and a maximum
        passes it over, which a session knows and sees to.
        """
        for name, vary in UNDEFINED.items():
            answers = self._answers(varied(self._usual, self._inputs, self._kept, vary, floats=True))
            for each in _by_output(answers, defined=answers.expected) if answers is not None else ():
                ((output, expected),) = each.expected.items()
                said = self._differs(each, exact=True) if expected.dtype.kind == "f" else ""
                if said and _makes_nan(self._job.model, output):
                    said = self._differs(_without_nan(each), exact=True)
                if said and not _what_hides_nan(self._job.model, output):
                    self._job.refusals.append(_refusal(f"{said} at {name}", self._varied(floats=True)))

    def _differs_from_numbers(self, answers: _Answers, *, exact: bool) -> str:
        """What differs where the model answers numbers; its own NaN may be numbers behind a node that hides them."""
        hidden = {name for name in answers.expected if _what_hides_nan(self._job.model, name)}
        for each in _by_output(answers, defined=hidden):
            if said := self._differs(each, exact=exact):
                return said
        return ""


def _by_output(answers: _Answers, *, defined: Collection[str]) -> Iterator[_Answers]:
    """Each output by itself; of some, the model's own NaN taken for the artifact's."""
    for name, value in answers.expected.items():
        expected = np.asarray(value)
        found = None if answers.found is None else answers.found[name]
        if found is not None and name in defined and found.shape == expected.shape and expected.dtype.kind == "f":
            found = np.where(np.isnan(expected), expected, found)
        yield _Answers(answers.inputs, {name: expected}, None if found is None else {name: found}, answers.reason)


def _without_nan(answers: _Answers) -> _Answers:
    """The same, with the artifact's NaN taken for the model's numbers."""
    found = {
        name: np.where(np.isnan(array), answers.expected[name], array)
        for name, array in (answers.found or {}).items()
        if array.shape == answers.expected[name].shape
    }
    return replace(answers, found={**(answers.found or {}), **found}) if answers.found is not None else answers


def _makes_nan(model: ir.Model, output: str) -> bool:
    """Whether infinity may come out as NaN: recurrent nodes multiply it by 0. Not where the model asks for NaN."""
    nodes = list(_graph_behind(model, output).node)
    return any(map(is_native, nodes)) and not any(node.op_type in ("IsNaN", "IsInf") for node in nodes)


def _what_hides_nan(model: ir.Model, output: str) -> str:
    """The node behind an output that makes a number of NaN, as a session names it."""
    return what_hides_nan(_graph_behind(model, output))


def _graph_behind(model: ir.Model, output: str) -> onnx.GraphProto:
    """The graph without what does not lead to an output."""
    graph = light(model)[0].graph
    wanted, behind = {output}, []
    for node in reversed(graph.node):
        if wanted.intersection(node.output):
            behind.append(node)
            wanted.update(node.input)
            wanted.update(name for inner in subgraphs(node) for each in nodes_within(inner) for name in each.input)
    del graph.node[:]
    graph.node.extend(reversed(behind))
    return graph


def _refusal(said: str, inputs: list[str]) -> Refusal:
    example = ", ".join(f"{name!r}: array" for name in inputs)
    return Refusal(
        "the exported graph",
        said,
        "ONNX Runtime computes an operator of it otherwise there: write the operator in another form; or, where such "
        f"values never come, give example={{{example}}} with values that do, and the proof draws from those",
    )
