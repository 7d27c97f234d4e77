"""Frontends: each traces one framework's models with every recurrent layer kept whole."""
