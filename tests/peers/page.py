"""The verdicts as a page: a summary a framework, then every model."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from statistics import median

from support.checks import SHAPES

from peers.cases import EXPORTERS, TITLES
from peers.judge import TOLERANCE, Verdict

_PACKAGES = ("torch", "tensorflow", "keras", "tf2onnx", "onnxscript", "onnxruntime-gpu", "onnxruntime")
_LONGEST = 90


def page(verdicts: Mapping[str, Sequence[Verdict]], every: int = 1) -> str:
    """The whole page, in Markdown; `every` says that only every so many-th model was measured."""
    return "\n".join([*_head(every), *_summaries(verdicts), "## Every model", "", *_details(verdicts)]).rstrip() + "\n"


def _head(every: int) -> Iterator[str]:
    shapes = ", ".join("×".join(map(str, shape[:2])) for shape in SHAPES)
    yield "# What each exporter makes of the same models"
    yield ""
    if every > 1:
        yield f"**A sample**: every {every}th model (`python -m peers --every {every}`); `make coverage` measures all."
        yield ""
    yield (
        "Written by `make coverage`, all exporters in one run on the same models, which are rows of the tests "
        "(`tests/support/`): written as users write them, most with lengths or masks, none of them built by seqport."
    )
    yield ""
    yield (
        f"- **parity**: the model's own answers at {len(SHAPES)} shapes (batch × steps: {shapes}), "
        f"none of them traced, within {TOLERANCE:g} of each value (of 1 where it is smaller)."
    )
    yield "- **native**: every recurrent layer is an RNN, GRU or LSTM node; no Loop, no Scan, no unrolled steps."
    yield "- **dynamic**: every axis that was declared dynamic is dynamic in the file."
    yield (
        "- **nodes**, **seconds** (of processor time, in a warm process): medians over the exporter's own files; in "
        "brackets the median ratio to seqport's, over the models that both wrote a file of. "
        "Below 1× the peer is the smaller or the faster one."
    )
    yield ""
    yield f"Versions: {', '.join(_versions())}."
    yield ""


def _versions() -> Iterator[str]:
    for name in _PACKAGES:
        try:
            yield f"{name} {version(name)}"
        except ModuleNotFoundError:
            continue


def _summaries(verdicts: Mapping[str, Sequence[Verdict]]) -> Iterator[str]:
    yield "![Models by what each exporter made of them](coverage.svg)"
    yield ""
    for framework, several in verdicts.items():
        yield f"## {TITLES[framework]}"
        yield ""
        yield "| exporter | models | all three | parity | native | dynamic | wrong file | no file | nodes | seconds |"
        yield "|---|---|---|---|---|---|---|---|---|---|"
        by_exporter = {name: {v.case: v for v in several if v.exporter == name} for name in EXPORTERS[framework]}
        for exporter, own in by_exporter.items():
            yield _summary(exporter, own, by_exporter["seqport"])
        yield ""


def _summary(exporter: str, own: Mapping[str, Verdict], seqport: Mapping[str, Verdict]) -> str:
    found = own.values()
    counts = [sum(bool(getattr(v, what)) for v in found) for what in ("all_three", "parity", "native", "dynamic")]
    wrong, none = sum(not v.error and not v.parity for v in found), sum(bool(v.error) for v in found)
    files = [v for v in found if not v.error]
    pairs = [] if own is seqport else [(v, seqport[v.case]) for v in files if not seqport[v.case].error]
    nodes = _median(".0f", [v.nodes for v in files], [a.nodes / b.nodes for a, b in pairs])
    seconds = _median(".2f", [v.seconds for v in files], [a.seconds / b.seconds for a, b in pairs])
    return f"| {' | '.join(map(str, [exporter, len(found), *counts, wrong, none, nodes, seconds]))} |"


def _median(form: str, values: Sequence[float], ratios: Sequence[float]) -> str:
    if not values:
        return "–"
    ratio = f" ({median(ratios):.2g}×)" if ratios else ""
    return f"{median(values):{form}}{ratio}"


def _details(verdicts: Mapping[str, Sequence[Verdict]]) -> Iterator[str]:
    yield (
        "✓ all three, with the nodes in the file and the seconds of processor time that the export took; else what is "
        "missing. `refused-…` are loops that seqport refuses by design: no recurrent operator computes them."
    )
    yield ""
    for framework, several in verdicts.items():
        exporters = EXPORTERS[framework]
        yield f"### {TITLES[framework]}"
        yield ""
        yield f"| model | {' | '.join(exporters)} |"
        yield "|---" * (len(exporters) + 1) + "|"
        found = {(v.case, v.exporter): v for v in several}
        for case in dict.fromkeys(v.case for v in several):
            cells = [_cell(found.get((case, exporter))) for exporter in exporters]
            yield f"| {case} | {' | '.join(cells)} |"
        yield ""


def _cell(verdict: Verdict | None) -> str:
    if verdict is None:
        return "–"
    if verdict.error:
        return f"no file: {_short(verdict.error)}"
    cost = f"{verdict.nodes} nodes, {verdict.seconds:.1f} s"
    if verdict.all_three:
        return f"✓ {cost}"
    missing = [
        *([] if verdict.native else ["not native"]),
        *([] if verdict.dynamic else ["fixed axes"]),
        *([] if verdict.parity else [f"**wrong**: {_short(verdict.why)}"]),
    ]
    return f"{'; '.join(missing)} ({cost})"


def _short(text: str) -> str:
    text = re.sub(r"\S*/model\.\w+", "the file", text)  # where it stood is nobody's concern
    text = re.sub(r': File "/.*', "…", text)  # a traceback begins, with the folders of this machine
    text = text.replace("|", "/").replace("`", "'").replace("<", "‹").replace("*", "×")
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
