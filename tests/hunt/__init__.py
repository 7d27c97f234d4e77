"""A hunt for wrong numbers: models made to slip past the proof, with PyTorch as the judge.

In goes a seed, out come findings, each shrunk to the fewest pieces that still go wrong, as data that builds the model
again. `make hunt` hunts for as long as it is told to; the tests hunt the same few models always.
"""
