"""ncnn on the CPU, float32 and int8."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bwn.errors import BwnError
from bwn.tools.ncnn_network import NcnnWriter, run_writer
from bwn.tools.ncnn_network import write_files as write
from engines.case import Case, Contender, Kind, UnsupportedError, load
from engines.ncnn_int8 import Int8Writer
from engines.ranges import ranges


def float32(case: Case) -> Contender:
    """The float32 function."""
    return _start(case, "float32")


def int8(case: Case) -> Contender:
    """8-bit weights with a scale per output, 8-bit inputs of every layer that has weights."""
    return _start(case, "int8")


def writer(case: Case, kind: Kind) -> NcnnWriter:
    """What writes ncnn's files of a network. Raises BwnError where a layer has no form there."""
    if kind == "int8":
        return Int8Writer(case.spec.graph, ranges(case))
    return NcnnWriter(case.spec.graph)


def write_files(case: Case, kind: Kind, folder: Path) -> list[Path]:
    """Write ncnn's files. Raises UnsupportedError where a layer has no form there."""
    with _unsupported():
        return write(writer(case, kind), folder)


def _start(case: Case, kind: Kind) -> Contender:
    load("ncnn", "ncnn")
    with _unsupported():
        return Contender("ncnn", kind, run_writer(writer(case, kind), case.threads))


@contextmanager
def _unsupported() -> Iterator[None]:
    try:
        yield
    except BwnError as error:
        raise UnsupportedError(str(error)) from error
