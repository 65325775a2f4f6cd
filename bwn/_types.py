"""Types that many modules share."""

from __future__ import annotations

import os

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]
"""Index of a class for each image: (N,)."""
StrPath = str | os.PathLike[str]
