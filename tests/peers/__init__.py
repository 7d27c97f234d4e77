"""What seqport and its peers make of the same models: one run, one judge. `python -m peers` writes docs/coverage.md."""
