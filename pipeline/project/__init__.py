"""A user's own models: found by name, given their weights, exported one at a time or as a whole project."""

from seqport.pipeline.project.build import Outcome, build_project
from seqport.pipeline.project.config import Project, read_project
from seqport.pipeline.project.recipe import Recipe

__all__ = ["Outcome", "Project", "Recipe", "build_project", "read_project"]
