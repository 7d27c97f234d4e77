"""Everyone who takes part in a race, by name: each one's module imports its own framework and no other."""

from __future__ import annotations

from seqport.pipeline.bench.contestants.entry import ENTRIES, Contestant, Entry, Prepared, entries_for

__all__ = ["ENTRIES", "Contestant", "Entry", "Prepared", "entries_for"]
