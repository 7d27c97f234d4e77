"""Which terms depend on each other in a circle: the recurrences among what a loop computes."""

from __future__ import annotations

from collections.abc import Iterator

from seqport.exporters.rolling.terms import Term


def components(roots: list[Term]) -> dict[Term, frozenset[Term]]:
    """Every term that depends on itself → all terms of its circle (Tarjan's algorithm, without recursion)."""
    index: dict[Term, int] = {}
    low: dict[Term, int] = {}
    open_terms: list[Term] = []
    is_open: set[Term] = set()
    found: dict[Term, frozenset[Term]] = {}
    for root in roots:
        work: list[tuple[Term, Iterator[Term]]] = []
        if root not in index:
            work.append((root, root.parts()))
            index[root] = low[root] = len(index)
            open_terms.append(root)
            is_open.add(root)
        while work:
            term, parts = work[-1]
            following = next(parts, None)
            if following is None:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[term])
                if low[term] == index[term]:
                    circle = open_terms[open_terms.index(term) :]
                    del open_terms[len(open_terms) - len(circle) :]
                    is_open -= set(circle)
                    if len(circle) > 1:
                        found.update(dict.fromkeys(circle, frozenset(circle)))
            elif following not in index:
                index[following] = low[following] = len(index)
                open_terms.append(following)
                is_open.add(following)
                work.append((following, following.parts()))
            elif following in is_open:
                low[term] = min(low[term], index[following])
    return found


def reached(term: Term) -> Iterator[Term]:
    """The term and all that it is made of."""
    seen = {term}
    waiting = [term]
    while waiting:
        item = waiting.pop()
        yield item
        for part in item.parts():
            if part not in seen:
                seen.add(part)
                waiting.append(part)
