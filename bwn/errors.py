"""The errors meant for users, as one tree. Each class has the exit code that the command ends with.

A message is one line: what is wrong, where, and what to do.
"""

from __future__ import annotations

from bwn._text import one_line


class BwnError(Exception):
    """Base class of every error meant for users. The command line prints it as one line.

    Attributes:
        exit_code: Exit code of the `bwn` command that ends with this error.

    Example:
        >>> import bwn
        >>> try:
        ...     model = bwn.load("none.bwn")
        ... except bwn.BwnError as error:
        ...     print(error)
        no such file: none.bwn
    """

    exit_code = 1

    def __str__(self) -> str:
        return one_line(super().__str__())  # it may quote a file or another library


class ArgumentError(BwnError, ValueError, TypeError):
    """Arguments are of a wrong type, out of range, do not go together, or do not fit the network.

    Example:
        >>> import bwn
        >>> bwn.load("model.bwn", threads=0)
        Traceback (most recent call last):
        bwn.errors.ArgumentError: threads is 0, expected 1 or more
    """

    exit_code = 2


class FileError(BwnError):
    """A file is missing, unreadable, truncated, of another kind, or illegal.

    Example:
        >>> import bwn
        >>> bwn.load("none.bwn")
        Traceback (most recent call last):
        bwn.errors.FileError: no such file: none.bwn
    """

    exit_code = 3


class FormatError(FileError):
    """A .bwn file breaks a rule of bwn/format/SPEC.md.

    Example:
        >>> import bwn
        >>> try:
        ...     model = bwn.load("digit.png")
        ... except bwn.FormatError as error:
        ...     print(str(error).partition(";")[0])
        digit.png: not a .bwn file: it looks like a PNG image
    """


class GraphError(FileError):
    """A graph is illegal, or has an operation that bwn does not support.

    Example:
        >>> import bwn
        >>> try:
        ...     report = bwn.pack("model.onnx", "binary.bwn", activations="binary")
        ... except bwn.GraphError as error:
        ...     print(str(error).partition(":")[0])
        layer 'dense2' cannot take binary activations
    """


class CheckpointError(FileError):
    """A training checkpoint cannot be read safely or does not fit its network.

    Example:
        >>> import bwn
        >>> issubclass(bwn.CheckpointError, bwn.FileError)
        True
    """


class DataError(FileError):
    """A data set or an image cannot be read.

    Example:
        >>> import bwn
        >>> bwn.load("model.bwn").predict("none.png")
        Traceback (most recent call last):
        bwn.errors.DataError: no such file: none.png
    """


class NotPreparedError(FileError):
    """The model has no preprocessing, so it cannot take images.

    Example:
        >>> import bwn
        >>> issubclass(bwn.NotPreparedError, bwn.FileError)
        True
    """

    def __init__(self) -> None:
        """Make the error; its message says what to do."""
        super().__init__(
            "the model does not say how images are prepared: pack it again with a preset, or with "
            "size, color, mean and std; or pass prepared arrays to Model.run"
        )


class DivergedError(BwnError):
    """The loss or the weights of a training run became NaN or infinite.

    Example:
        >>> import bwn
        >>> bwn.DivergedError.exit_code
        1
    """


class MissingPackageError(BwnError):
    """A feature needs an extra that is not installed.

    Example:
        >>> import bwn
        >>> print(bwn.MissingPackageError("onnx", "onnx", "ONNX"))
        ONNX needs onnx, which is not installed: pip install onnx, or '.[onnx]' in bwn's folder
    """

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        """Name the package, the extra of bwn that has it, and what needs it."""
        super().__init__(
            f"{purpose} needs {package}, which is not installed: pip install {package}, or "
            f"'.[{extra}]' in bwn's folder"
        )


def too_little_memory(error: MemoryError) -> BwnError:
    """An error that says what to do; a MemoryError may have no message."""
    size = f" ({one_line(error)})" if str(error) else ""
    return BwnError(
        f"not enough memory for this run{size}: run fewer inputs at a time, or on a machine with "
        "more memory"
    )
