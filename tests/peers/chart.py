"""The summary as a picture: one bar an exporter, by what became of the models."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape

from peers.cases import EXPORTERS, TITLES
from peers.judge import Verdict

# What became of a model, the best first: its colour, and whether a verdict is of this kind.
KINDS = {
    "right, native, dynamic": ("#2a7f62", lambda v: v.all_three),
    "right answers, but a loop, unrolled or fixed": ("#e3b23c", lambda v: v.parity and not v.all_three),
    "no file": ("#b8bec6", lambda v: bool(v.error)),
    "a file with wrong answers": ("#c8443c", lambda v: not v.error and not v.parity),
}
_LEFT, _WIDTH, _BAR, _STEP = 120, 640, 20, 28


def chart(verdicts: Mapping[str, Sequence[Verdict]]) -> str:
    """An SVG."""
    lines = list(_legend())
    y = 44
    for framework, several in verdicts.items():
        y += 30
        models = len({v.case for v in several})
        lines.append(f'<text x="16" y="{y}" font-weight="bold">{TITLES[framework]}: {models} models</text>')
        y += 10
        for exporter in EXPORTERS[framework]:
            lines += _bar(exporter, [v for v in several if v.exporter == exporter], y)
            y += _STEP
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_LEFT + _WIDTH + 24} {y + 12}" '
        'font-family="Helvetica, Arial, sans-serif" font-size="13" fill="#20242a">'
    )
    return "\n".join([head, '<rect width="100%" height="100%" fill="#ffffff"/>', *lines, "</svg>"]) + "\n"


def _legend() -> Iterator[str]:
    x = 16
    for name, (colour, _) in KINDS.items():
        yield f'<rect x="{x}" y="16" width="13" height="13" fill="{colour}"/>'
        yield f'<text x="{x + 19}" y="27">{escape(name)}</text>'
        x += 30 + round(6.4 * len(name))


def _bar(exporter: str, own: Sequence[Verdict], y: int) -> Iterator[str]:
    yield f'<text x="{_LEFT - 10}" y="{y + 15}" text-anchor="end">{escape(exporter)}</text>'
    x = float(_LEFT)
    for colour, belongs in KINDS.values():
        count = sum(belongs(verdict) for verdict in own)
        width = _WIDTH * count / max(1, len(own))
        if not count:
            continue
        yield f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="{_BAR}" fill="{colour}"/>'
        if width > 22:
            yield f'<text x="{x + width / 2:.1f}" y="{y + 15}" text-anchor="middle" fill="#ffffff">{count}</text>'
        x += width
