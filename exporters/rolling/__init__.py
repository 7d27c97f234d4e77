"""Loops over time that were traced step by step, rolled back into one computation over the whole time axis."""
