"""The one tree of errors meant for users. Each class has the exit code that the command line ends with.

A message says what was found, where, what was expected and what to do next; it is one line.
"""

from __future__ import annotations


class BwnError(Exception):
    """Root of every error meant for users; the command line prints it as one line."""

    exit_code = 1


class FileError(BwnError):
    """A file is missing, unreadable, truncated, foreign or illegal."""

    exit_code = 3


class FormatError(FileError):
    """A .bwn file breaks a rule of bwn/format/SPEC.md."""


class GraphError(FileError):
    """A graph is illegal, or asks for an operation that bwn does not have."""


class CheckpointError(FileError):
    """A training checkpoint cannot be read safely or does not fit its network."""


class DataError(FileError):
    """A data set or an image cannot be read."""


class DivergedError(BwnError):
    """The loss or the weights of a training run are no longer finite numbers."""


class MissingPackageError(BwnError):
    """A command needs an extra that is not installed."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs {package}, which is not installed: pip install 'bwn[{extra}]'"
        )
