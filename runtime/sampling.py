"""Chooses the next token of each row: the likeliest, or one drawn from what the model says.

A row draws from a random stream of its own, one number a step, and its token is where that number
falls among the cumulated probabilities, in the order of the tokens. So a row's tokens depend on its
seed and on what the model says to it alone: not on the other rows, on how many steps those take, or on
the runtime, as long as the runtimes agree on the logits (a difference of 1e-6 moves a token with a
probability of about 1e-6 a step).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

import numpy as np

from seqport.runtime.errors import InputError, InputSizeError, InputValueError

# Numbers that a row draws at once: a call costs more than the numbers.
_BLOCK = 64
_ASK = "are its input and states finite?"

Seed = int | Sequence[int | tuple[int, int]] | None


@dataclass(frozen=True)
class Sampling:
    """How tokens are chosen.

    Attributes:
        temperature: 0 takes the likeliest token; 1 draws as the model says; above, more evenly.
        top_k: only the k likeliest tokens may be drawn.
        top_p: only the likeliest tokens that together reach this probability may be drawn, after top_k.
        seed: of the rows' random streams. With an int, row i draws from stream i of that seed. A sequence has
            one entry a row: `s` for stream 0 of the seed s, or `(s, i)` for its stream i, which is
            how one row of a batch is drawn again alone. None: other tokens in each call.

    Raises:
        InputError: a value that has no meaning; or top_k, top_p or a seed where nothing is drawn.
    """

    temperature: float = 0.0
    top_k: int | None = None
    top_p: float | None = None
    seed: Seed = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.temperature) and self.temperature >= 0):
            raise InputError(f"temperature is {self.temperature}, expected 0 (the likeliest token) or more")
        if self.top_k is not None and self.top_k < 1:
            raise InputError(f"top_k is {self.top_k}, expected at least 1")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise InputError(f"top_p is {self.top_p}, expected above 0 and at most 1")
        if self.draws:
            return
        for name in ("top_k", "top_p", "seed"):
            if getattr(self, name) is not None:
                raise InputError(
                    f"{name} is {getattr(self, name)}, but with temperature 0 nothing is drawn: "
                    "give a temperature, such as 1.0, or leave it out"
                )

    @property
    def draws(self) -> bool:
        """Whether anything is random."""
        return self.temperature > 0


class Sampler:
    """Draws tokens for the rows of one call.

    Args:
        sampling: how.
        rows: of the whole call.
        probabilities: the model gives those, and not their logarithms.
    """

    def __init__(self, sampling: Sampling, rows: int, *, probabilities: bool) -> None:
        self._sampling = sampling
        self._probabilities = probabilities
        self._streams = _Streams(sampling.seed, rows)

    def __call__(self, o_t: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """The next tokens.

        Args:
            o_t: what the model says, [rows, out_dim].
            rows: which rows of the call those are.

        Returns:
            Tokens, [rows].

        Raises:
            InputValueError: the model says NaN.
        """
        chances = self._chances(o_t, rows)
        # [rows, out_dim]: a token's share ends here. In the order of tokens, which no rounding can change.
        ends = chances.cumsum(-1)
        total = ends[:, -1]
        point = np.minimum(self._streams(rows) * total, np.nextafter(total, 0))
        return (ends <= point[:, None]).sum(-1)

    def _chances(self, o_t: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Probabilities, not yet of sum 1; 0 for what may not be drawn."""
        logits = o_t.astype(np.float64)
        if self._probabilities:
            if (logits < 0).any():
                row = int((logits < 0).any(-1).argmax())
                raise InputValueError(
                    f"row {int(rows[row])}: the model answers {logits[row].min():.3g}, which is no probability"
                )
            with np.errstate(divide="ignore", invalid="ignore"):
                logits = np.log(logits)
        most = logits.max(-1, keepdims=True)
        if not np.isfinite(most).all():
            place = int(np.flatnonzero(~np.isfinite(most[:, 0]))[0])
            _refuse(o_t[place], rows[place])
        sampling = self._sampling
        chances = np.exp((logits - most) / sampling.temperature)
        tokens = chances.shape[-1]
        if sampling.top_k is not None and sampling.top_k < tokens:
            least = np.partition(chances, tokens - sampling.top_k, -1)[:, tokens - sampling.top_k, None]
            _keep(chances, sampling.top_k, least)
        if sampling.top_p is not None and sampling.top_p < 1:
            falling = np.sort(chances, -1)[:, ::-1]
            together = falling.cumsum(-1)
            count = (together >= sampling.top_p * together[:, -1:]).argmax(-1)[:, None] + 1
            _keep(chances, count, np.take_along_axis(falling, count - 1, -1))
        return chances


def likeliest(o_t: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The likeliest token of each row, the first of those that are as likely.

    Raises:
        InputValueError: the model says NaN, infinity twice, or that nothing is likely.
    """
    chosen = o_t.argmax(-1)
    most = np.take_along_axis(o_t, chosen[:, None], -1)[:, 0]  # NaN where there is any
    if not np.isfinite(most).all():
        for row in np.flatnonzero(~np.isfinite(most)):
            if most[row] != np.inf or (o_t[row] == np.inf).sum() > 1:
                _refuse(o_t[row], rows[row])
    return chosen


def numbers(o_t: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The features themselves.

    Raises:
        InputValueError: the model says NaN.
    """
    wrong = np.isnan(o_t).reshape(len(o_t), -1).any(-1)
    if wrong.any():
        raise InputValueError(f"row {int(rows[wrong.argmax()])}: the model answers nan: {_ASK}")
    return o_t


def _refuse(o_t: np.ndarray, row: int) -> NoReturn:
    largest = np.nan if np.isnan(o_t).any() else o_t.max()
    raise InputValueError(f"row {int(row)}: the model answers {largest}, from which no token can be drawn: {_ASK}")


class _Streams:
    """One random stream a row: PCG64 of NumPy's SeedSequence, whose numbers are the same everywhere."""

    def __init__(self, seed: Seed, rows: int) -> None:
        self._seeds = _sequences(seed, rows)
        self._generators: list[np.random.Generator | None] = [None] * rows
        self._drawn = np.empty((rows, _BLOCK))
        self._used = np.full(rows, _BLOCK)

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        """The next number of each of these rows, in [0, 1)."""
        for row in rows[self._used[rows] == _BLOCK].tolist():
            generator = self._generators[row] or np.random.Generator(np.random.PCG64(self._seeds[row]))
            self._generators[row] = generator
            self._drawn[row] = generator.random(_BLOCK)
            self._used[row] = 0
        numbers = self._drawn[rows, self._used[rows]]
        self._used[rows] += 1
        return numbers


def _sequences(seed: Seed, rows: int) -> list[np.random.SeedSequence]:
    if seed is None:
        return np.random.SeedSequence().spawn(rows)
    if isinstance(seed, int | np.integer):
        pairs = [(int(seed), row) for row in range(rows)]
    else:
        pairs = [entry if isinstance(entry, tuple) else (int(entry), 0) for entry in seed]
        if len(pairs) != rows:
            raise InputSizeError(f"seed has {len(pairs)} entries for {rows} rows, expected one a row, or one int")
    for number, stream in pairs:
        if number < 0 or stream < 0:
            raise InputError(f"seed {number if number < 0 else (number, stream)} is negative, expected 0 or more")
    return [np.random.SeedSequence(number, spawn_key=(stream,)) for number, stream in pairs]


def _keep(chances: np.ndarray, count: int | np.ndarray, least: np.ndarray) -> None:
    """Set all but the `count` likeliest tokens to 0; of equal ones the first stay.

    `least` is the chance of the last one that is kept. The order of the tokens is not asked
    for: to find it would take longer than all else.
    """
    more, equal = chances > least, chances == least
    chances[~(more | (equal & (equal.cumsum(-1) <= count - more.sum(-1, keepdims=True))))] = 0.0
