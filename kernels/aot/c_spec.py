"""What a C library is made of: no compiler is needed to say it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

MAX_SIDE = 65535
"""Most pixels of either side of an image."""
ALIGNMENT = 64
"""Bytes that an arena is aligned to, and each constant."""
ERRORS = (
    "no error",
    "the arena is NULL or not aligned to 64 bytes",
    f"the image is NULL, a side of it is not 1 to {MAX_SIDE}, or it has not 1, 3 or 4 channels",
    "a score is not finite: the network's activations overflow on this input",
    "this processor lacks instructions that the library was compiled for",
    "the arena was not initialized, or was moved or copied since",
)
"""What the codes that functions return mean; the code is the index."""
ARENA, IMAGE, SCORE, LACKS, UNINITIALIZED = range(1, 6)
"""Codes by name."""
ERROR_NAMES = ("ARENA", "IMAGE", "SCORE", "PROCESSOR", "UNINITIALIZED")
"""What headers call the codes from 1."""
UNKNOWN = "unknown error"

INSTALL, PREPARE, PROBABILITIES = "install", "prepare", "probabilities"
"""Names of the entries besides kernels."""


class StepCall(NamedTuple):
    """A call of a kernel.

    Attributes:
        entry: Name of the kernel's function.
        block: Place of its parameter block in the arena.
        units: Work items.
    """

    entry: str
    block: int
    units: int


class Layout(msgspec.Struct, frozen=True, kw_only=True):
    """An arena and constants.

    Attributes:
        image: The first words of an arena, in which addresses are offsets.
        own: Indices of the words that point into the arena.
        fixed: Indices of the words that point into the constants.
        constants: All that is only read.
        blocks: Place of each step's parameter block in the arena.
        x_word: Place of the word for the address of the caller's input.
        out_word: Likewise, of the output.
        seal: Place of the word for the arena's own address: `init` has filled this arena, here.
        x: Place of an input, and then an output, that the caller does not see.
        scores: Place of that output.
        work: Place and size of the memory that is free between runs.
        size: Bytes of the arena.
    """

    image: npt.NDArray[np.int64]
    own: npt.NDArray[np.int32]
    fixed: npt.NDArray[np.int32]
    constants: bytes
    blocks: tuple[int, ...]
    x_word: int
    out_word: int
    seal: int
    x: int
    scores: int
    work: tuple[int, int]
    size: int


class Library(msgspec.Struct, frozen=True, kw_only=True):
    """What a C library does.

    Attributes:
        name: What the names of its functions begin with.
        steps: The plan.
        layout: Its arena and constants.
        classes: Names of the classes.
        machine: What it is compiled for, as `platform.machine` names it.
        needs: What a processor must have, by Linux's names.
        prepares: Whether the library can prepare images: it has an entry `prepare`.
        classifies: Whether it can also run one at once: the batch is 1.
    """

    name: str
    steps: Sequence[StepCall]
    layout: Layout
    classes: Sequence[str]
    machine: str
    needs: frozenset[str]
    prepares: bool
    classifies: bool
