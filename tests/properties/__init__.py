"""Architectures, shapes, masks and states drawn at random, each compared with what is right for it."""
