"""Random sequences that prove a model in chunks: of which sizes, which values, and where they are cut."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate, pairwise

import numpy as np

from seqport.runtime.stream_signature import Chunk, StreamSignature

FEWEST = 6  # steps: two chunks, and every one of them alone
LARGE = 32.0  # how much larger a large row is: a power of two, which rounds nothing
_OTHER = 3  # size of a dynamic axis that is neither batch nor steps
_SINGLES = 12  # steps that come one by one, of two rows at once
_TRIES = 8
Pattern = tuple[int, ...]
# Which steps of a row the model masks, [steps].
MaskOf = Callable[[Chunk], np.ndarray]


@dataclass(frozen=True)
class Draw:
    """What may come in, for random inputs.

    Attributes:
        steps: of a whole sequence.
        tables: the ids that an input of whole numbers may have, from 0.
        onsets: numbers of steps at which a constant of the graph sets in.
        numbers: how many whole numbers there are for an input that no table bounds, from 0.
        held: inputs that are given one value, of which a sequence in chunks may have another effect each time.
    """

    steps: int
    tables: Mapping[str, int]
    onsets: tuple[int, ...] = ()
    numbers: int = 10
    held: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def beyond(cls, reach: int, tables: Mapping[str, int], onsets: Sequence[int] = ()) -> Draw:
        """Sequences longer than what layers reach over, and twice as long as whatever sets in."""
        return cls(FEWEST + reach + 2 * max(onsets, default=0), tables, tuple(sorted(set(onsets))))

    def shortened(self, steps: int) -> Draw:
        """The same of so many steps at most."""
        return replace(self, steps=min(self.steps, steps))


def whole_row(
    signature: StreamSignature,
    draw: Draw,
    random: np.random.Generator,
    *,
    masked_steps: bool,
    kind: str = "usual",
    mask_of: MaskOf | None = None,
) -> Chunk:
    """A random sequence.

    Args:
        signature: of the model.
        draw: what may come in.
        random: where from.
        masked_steps: whether some steps are masked, where the model masks by value.
        kind: "usual"; "large", some steps of which hold numbers LARGE times as large; "still", with steps that repeat,
            or are zero.
        mask_of: which steps of a row the model masks; None where its padding value says so.
    """
    masked = random.random(draw.steps) < 0.4
    still = (random.random(draw.steps) < 0.4) & (kind == "still")
    large = (random.random(draw.steps) < 0.3) & (kind == "large")
    arrays = {}
    for name, slot in signature.inputs.items():
        axes = slot.row_axes
        shape = [axis if isinstance(axis, int) else _OTHER for axis in axes]
        if slot.sequence is not None:
            shape[slot.row_steps] = draw.steps
        ids = draw.tables.get(name, draw.numbers if slot.sequence else draw.steps + 1)
        if name in draw.held:
            array = np.full(shape, draw.held[name], slot.info.dtype)
        elif name in signature.zeros_and_ones:
            array = random.integers(0, 2, shape).astype(slot.info.dtype)
        else:
            array = _random(random, np.dtype(slot.info.dtype), shape, ids)
        if slot.sequence is not None:
            by_step = np.moveaxis(array, slot.row_steps, 0)  # a view
            _hold(by_step, still, random)
            if array.dtype.kind == "f" and name not in signature.zeros_and_ones:
                by_step[large] *= array.dtype.type(LARGE)
        if name in signature.mask_inputs:
            by_step = np.moveaxis(array, slot.row_steps, 0)
            value = signature.sequence.padding_value
            if mask_of is None or masked_steps:
                by_step[by_step == value] = True if array.dtype.kind == "b" else 1
            if masked_steps:
                by_step[masked] = value
        arrays[name] = array
    row = Chunk(arrays, draw.steps)
    return row if masked_steps or mask_of is None else _unmasked(signature, row, mask_of, random)


def _random(random: np.random.Generator, dtype: np.dtype, shape: list[int], ids: int) -> np.ndarray:
    if dtype.kind == "f":
        return random.standard_normal(shape).astype(dtype)
    if dtype.kind == "b":
        return random.integers(0, 2, shape).astype(dtype)
    few = random.integers(0, min(ids, 4), shape)  # what models treat on its own, if anything: padding, unknown words
    return np.where(random.random(shape) < 0.3, few, random.integers(0, ids, shape)).astype(dtype)


def _hold(by_step: np.ndarray, still: np.ndarray, random: np.random.Generator) -> None:
    """Let some steps repeat the one before, and others be zero."""
    for step in np.flatnonzero(still):
        by_step[step] = by_step[step - 1] if step and random.random() < 0.5 else 0


def _unmasked(signature: StreamSignature, row: Chunk, mask_of: MaskOf, random: np.random.Generator) -> Chunk:
    """The same row, whose masked steps are replaced by others of it."""
    for _ in range(_TRIES):
        masked = mask_of(row)
        if not masked.any() or masked.all():
            return row
        order = np.arange(row.steps)
        order[masked] = random.choice(order[~masked], int(masked.sum()))
        row = Chunk(
            {
                name: array.take(order, signature.inputs[name].row_steps) if signature.inputs[name].sequence else array
                for name, array in row.arrays.items()
            },
            row.steps,
        )
    return row


def part(signature: StreamSignature, row: Chunk, start: int, end: int) -> Chunk:
    """Some steps of a sequence; a state comes with the first of them."""
    arrays = {}
    for name, slot in signature.inputs.items():
        if (name in signature.states or name in signature.first_only) and start:
            continue
        array = row.arrays[name]
        arrays[name] = array if slot.sequence is None else array.take(range(start, end), axis=slot.row_steps)
    return Chunk(arrays, end - start)


def rounds(draw: Draw) -> Iterator[tuple[tuple[str, str], tuple[Pattern, Pattern]]]:
    """The kinds of two rows, and the sizes of the chunks that each comes in.

    Single steps, an empty chunk, halves, all but the last; with and without a neighbour of the same size, because only
    such chunks share a run where nothing tells padding apart.
    """
    steps, half = draw.steps, draw.steps // 2
    singles = (1,) * steps if steps <= 2 * FEWEST else (1, 1, steps - 4, 1, 1)
    yield ("usual", "usual"), (singles, (2, 0, steps - 2))
    yield ("usual", "usual"), ((half, steps - half), (1, steps - 1))
    thirds = half, 1, steps - half - 1
    yield ("usual", "large"), (thirds, thirds)
    begun = _sizes([*range(1, min(steps, _SINGLES) + 1), steps])
    yield ("large", "still"), (begun, begun)
    yield ("still", "usual"), ((steps - 1, 1), (steps,))
    if draw.onsets:
        around = {n + more for n in draw.onsets for more in (-1, 0, 1)} & set(range(1, steps))
        yield ("usual", "still"), (_sizes([1, *around, steps]), (3, steps - 3))


def _sizes(ends: Sequence[int]) -> Pattern:
    return tuple(end - start for start, end in pairwise(sorted({0, *ends})))


def padded_ends(pattern: Sequence[int], count: int) -> list[tuple[int, int]]:
    """Where each chunk starts and ends, with empty chunks behind the last."""
    ends = [0, *accumulate(pattern)]
    ends += [ends[-1]] * (count + 1 - len(ends))
    return list(pairwise(ends))
