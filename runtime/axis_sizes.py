"""Sizes of a model's answers before it runs, as far as they follow from its inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from seqport.runtime.artifact import TensorInfo


class AxisSizes:
    """What the names of axes stand for.

    Args:
        inputs: a model's; an axis of the same name has the same size everywhere.
    """

    def __init__(self, inputs: Sequence[TensorInfo]) -> None:
        self._sizes: dict[str, Callable[[Mapping[str, Any]], int]] = {}
        for info in inputs:
            if len(info.axes) == 1:  # an axis that is cut to the longest row is named after the lengths
                self._sizes[f"max_{info.name}"] = lambda feed, name=info.name: int(feed[name].max())
        for info in inputs:
            for place, axis in enumerate(info.axes):
                if isinstance(axis, str):
                    self._sizes[axis] = lambda feed, name=info.name, place=place: feed[name].shape[place]

    def follow(self, axes: Sequence[str | int]) -> bool:
        """Whether the sizes of all axes follow from the inputs."""
        return all(isinstance(axis, int) or axis in self._sizes for axis in axes)

    def shape(self, axes: Sequence[str | int], feed: Mapping[str, Any]) -> tuple[str | int, ...]:
        """The size of each axis; its name where that does not follow.

        Args:
            axes: of an output.
            feed: checked inputs.
        """
        sizes = self._sizes
        return tuple([axis if isinstance(axis, int) or axis not in sizes else sizes[axis](feed) for axis in axes])
