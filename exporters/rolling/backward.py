"""Terms that run from the last step to the first, and the same terms in the order of time."""

from __future__ import annotations

from seqport.exporters.rolling.terms import Applied, Before, Counted, Flipped, Same, Taken, Term, Window


def is_backward(term: Term) -> bool:
    """Whether every step of a sequence in the term is taken from the end."""
    match term:
        case Taken():
            return term.stride < 0
        case Flipped():
            return True
        case Counted():
            return term.stride < 0
        case Window():
            return is_backward(term.of)
        case Applied():
            parts = [part for part in term.parts() if not isinstance(part, Same)]
            return bool(parts) and not _circular(term) and all(is_backward(part) for part in parts)
    return False


def _circular(term: Term, above: frozenset[Term] = frozenset()) -> bool:
    """Whether a term may depend on itself."""
    return isinstance(term, Before) or term in above or any(_circular(part, above | {term}) for part in term.parts())


def turned(term: Term) -> Term:
    """The term with its steps in the opposite order."""
    family = term.family[::-1]
    match term:
        case Taken():
            last = term.start + term.stride * (term.count - 1)
            return Taken(family, term.source, term.axis, last, -term.stride, term.kept)
        case Counted():
            return Counted(family, term.start + term.stride * (term.count - 1), -term.stride)
        case Flipped():
            return term.of
        case Same():
            return term
        case Window():
            return Window(family, turned(term.of), term.back, term.front)
        case Applied():
            operands = [None if part is None else turned(part) for part in term.operands]
            return Applied(family, term.node, term.index, operands)
    return Flipped(family, term)
