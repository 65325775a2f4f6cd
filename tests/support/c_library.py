"""A compiled C library, called through ctypes."""

from __future__ import annotations

import ctypes
import subprocess
from pathlib import Path
from typing import Any, Literal

import numpy as np
from guarded import guarded

POINTER, INT = ctypes.c_void_p, ctypes.c_int
IMAGE = (POINTER, INT, INT, INT, ctypes.c_ssize_t)
FUNCTIONS: dict[str, tuple[Any, ...]] = {
    "arena_size": (ctypes.c_size_t,),
    "init": (INT, POINTER),
    "run": (None, POINTER, POINTER, POINTER),
    "probabilities": (INT, POINTER, POINTER),
    "class": (ctypes.c_char_p, INT),
    "error": (ctypes.c_char_p, INT),
    "prepare": (INT, POINTER, *IMAGE, POINTER),
    "classify": (INT, POINTER, *IMAGE, POINTER),
}


def run(*command: object, check: bool = True, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a program."""
    done = subprocess.run(
        [*map(str, command)], capture_output=True, text=True, check=False, **options
    )
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


class CLibrary:
    """libNAME.so in a folder, with one arena between forbidden pages, poisoned before `init`."""

    def __init__(self, folder: Path, name: str, side: Literal["before", "after"] = "after") -> None:
        self._library, self.name = ctypes.CDLL(str(folder / f"lib{name}.so")), name
        self.arena = guarded(self.call("arena_size"), side)
        self.address = self.arena.ctypes.data
        assert self.call("init", self.address) == 0

    def call(self, function: str, *arguments: object) -> Any:
        """A function of the library. Arrays are passed by their address."""
        returns, *types = FUNCTIONS[function]
        called = ctypes.CFUNCTYPE(returns, *types)((f"{self.name}_{function}", self._library))
        return called(*(a.ctypes.data if isinstance(a, np.ndarray) else a for a in arguments))

    def run(self, x: np.ndarray, outputs: tuple[int, ...]) -> np.ndarray:
        """Scores of a batch."""
        scores = np.full((len(x), *outputs), np.nan, np.float32)
        self.call("run", self.address, x, scores)
        return scores

    def classify(self, pixels: np.ndarray, classes: int) -> np.ndarray:
        """Probabilities of an image, (H, W) or (H, W, channels)."""
        probabilities = np.full(classes, np.nan, np.float32)
        (height, width), channels = pixels.shape[:2], pixels[0, 0].size
        image = (pixels, width, height, channels, pixels.strides[0])
        assert self.call("classify", self.address, *image, probabilities) == 0
        return probabilities
