"""The version of seqport that stamps an artifact."""

from importlib.metadata import PackageNotFoundError, version

try:
    VERSION = version("seqport")
except PackageNotFoundError:  # run from a source tree that was never installed
    VERSION = "0"
