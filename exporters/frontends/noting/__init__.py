"""Runs of a model whose numbers note what its own code compares them with; of any framework."""
